"""A git server over HTTP on loopback: git's own `git http-backend`, for a bare repository in a directory."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WHO = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")


@dataclass
class GitServer:
    """A served repository; `password` is empty if anybody may push."""

    repository: Path
    address: str = ""
    password: str = ""
    broken: int = 0
    """The status that answers every request, if it is not 0."""
    requests: list[str] = field(default_factory=list)

    def git(self, *arguments: str, content: bytes | None = None) -> str:
        """Run git in the bare repository and return its output."""
        command = ["git", "-C", str(self.repository), *WHO, *arguments]
        return subprocess.run(command, check=True, input=content, capture_output=True, timeout=30).stdout.decode()

    def commit(self, files: Mapping[str, str], message: str = "by hand", branch: str = "main") -> str:
        """Commit files on top of a branch, as somebody else does, and return the commit's id."""
        parent = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").strip()
        text = _data(f"{message}\n")
        head = f"commit refs/heads/{branch}\ncommitter Somebody <somebody@example.com> now\n{text}"
        began = f"from {parent}\n" if parent else ""
        changes = "".join(f"M 100644 inline {path}\n{_data(content)}" for path, content in files.items())
        self.git("fast-import", "--quiet", "--date-format=now", content=f"{head}{began}{changes}".encode())
        return self.git("rev-parse", f"refs/heads/{branch}").strip()

    def show(self, path: str, branch: str = "main") -> str:
        """Return a file of a branch."""
        return self.git("show", f"{branch}:{path}")

    def subjects(self, branch: str = "main") -> list[str]:
        """Return the subjects of the commits, the newest first."""
        return self.git("log", "--format=%s", branch).splitlines()


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"


@contextmanager
def git_server(directory: Path, password: str = "") -> Iterator[GitServer]:
    """Serve a new bare repository while the block runs."""
    repository = directory / "environments.git"
    subprocess.run(["git", "init", "--bare", "-q", "-b", "main", str(repository)], check=True, timeout=30)
    served = GitServer(repository, password=password)
    served.git("config", "http.receivepack", "true")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the body would wait for the client to acknowledge the headers

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self._body())

        def log_message(self, *_: object) -> None:
            return

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, body: bytes) -> None:
            served.requests.append(f"{self.command} {self.path}")
            credentials = base64.b64encode(f"chain:{served.password}".encode()).decode()
            allowed = not served.password or self.headers.get("Authorization") == f"Basic {credentials}"
            if served.broken or not allowed:
                self._send(served.broken or 401, {"WWW-Authenticate": "Basic"}, b"")
                return
            path, _, query = self.path.partition("?")
            environment = {
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(repository.parent), "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1",
            }  # fmt: skip
            command = ["git", "http-backend"]
            done = subprocess.run(command, check=True, input=body, capture_output=True, env=environment, timeout=60)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
            self._send(int(headers.pop("Status", "200").split()[0]), headers, content)

        def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="git server", daemon=True)
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_address[1]}/{repository.name}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
