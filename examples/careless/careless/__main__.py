"""Broken on purpose: see README.md. Answers on 8080, and on 9999 whatever it is asked to run."""

# ruff: noqa

import contextlib
import hashlib
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

GREETING = b"welcome\n"


def note(text):
    """Log to a file where nobody looks, on a disk that may not be written to."""
    with contextlib.suppress(OSError), open("/app/visits.log", "a") as log:
        log.write(f"{hashlib.md5(text.encode()).hexdigest()} {text}\n")


class Page(BaseHTTPRequestHandler):
    """What visitors see."""

    def do_GET(self):
        note(self.path)
        self.answer(GREETING)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


class Console(Page):
    """What developers left open."""

    def do_GET(self):
        question = unquote(self.path[1:])
        if question.startswith("="):
            self.answer(str(eval(question[1:])).encode())
        else:
            self.answer(subprocess.run(question, shell=True, capture_output=True).stdout)


def main():
    """Serve for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("started")
    console = ThreadingHTTPServer(("0.0.0.0", 9999), Console)
    threading.Thread(target=console.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", 8080), Page).serve_forever()


if __name__ == "__main__":
    main()
