"""Server of releases on a free port: files with checksums, and connections that break."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Releases:
    """Server of releases, with its files, the points where it cuts a connection, and the requests it received."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def publish(self, name: str, asset: str, content: bytes, listed: str | None = None, tag: str = "v1.2.0") -> None:
        base = f"/project/{name}/releases/download/{tag}"
        self.files[f"{base}/{asset}"] = content
        digest = listed or hashlib.sha256(content).hexdigest()
        self.files[f"{base}/checksums.txt"] = f"{'0' * 64}  other\n{digest}  {asset}\n".encode()

    def fetched(self) -> list[str | None]:
        """Return the byte ranges of all requests for assets other than checksum files."""
        return [part for path, part in self.asked if not path.endswith("checksums.txt")]


@contextlib.contextmanager
def serve_releases() -> Iterator[Releases]:
    """Serve the releases on a free port."""
    state = Releases()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the body would wait for the client to acknowledge the headers

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            start = int(wanted[6:-1]) if wanted and self.headers.get("If-Range") == tag else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            if state.cuts and not self.path.endswith("checksums.txt"):
                self.wfile.write(content[start : start + state.cuts.pop(0)])
                self.close_connection = True
                return
            self.wfile.write(content[start:])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
