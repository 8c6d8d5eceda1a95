"""Answer requests; log to stdout; end with status 0 on SIGTERM."""

from __future__ import annotations

import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES = {"/": b"still here\n", "/healthz": b"ok\n"}


class Page(BaseHTTPRequestHandler):
    """What visitors see."""

    def do_GET(self) -> None:
        """Answer a page, or 404."""
        body = PAGES.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """One line for each request, on stdout."""
        print(self.address_string(), format % args)


def main() -> None:
    """Serve until asked to stop."""
    server = ThreadingHTTPServer(("", 8080), Page)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("listening on port 8080")
    server.serve_forever()
    print("stopped")


if __name__ == "__main__":
    main()
