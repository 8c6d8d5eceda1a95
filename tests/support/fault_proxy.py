"""Fault injection between the chain and its services: an HTTP proxy, and a relay for the engine's socket."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Fault:
    """What happens to the next `times` requests that match `METHOD /path` or `POST Operation`.

    `status` is sent instead of the service's response. With `keep`, that many bytes of the service's response
    are sent and the connection is closed; with `lie`, the response claims to be complete. With neither, no
    response is sent.
    """

    where: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    keep: int | None = None
    lie: bool = False
    times: int = 1_000_000
    agent: str = ""
    """Only clients whose User-Agent has this word."""
    delay: float = 0.0
    """Seconds before anything else happens; the service's response is sent then if nothing else is declared."""
    hits: list[float] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    """Set once the service has the last request that this happened to, or will not get it."""

    def takes(self, request: str, agent: str) -> bool:
        if len(self.hits) >= self.times or self.agent not in agent or not re.search(self.where, request):
            return False
        self.hits.append(time.monotonic())
        return True


class FaultProxy:
    """A proxy in front of another address. Clients sign for its address, and requests are forwarded unchanged.

    With `tls`, the service is reached by TLS, and the proxy without it.
    """

    def __init__(self, target: str, tls: ssl.SSLContext | None = None) -> None:
        self.target, self.tls, self.faults, self.requests = target, tls, [], []
        self._streams: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._port = 0
        self.start()

    faults: list[Fault]
    requests: list[str]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the service."""
        if self.tls:
            return http.client.HTTPSConnection(self.target, timeout=60, context=self.tls)
        return http.client.HTTPConnection(self.target, timeout=60)

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self))
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def streaming(self, *ends: socket.socket) -> Iterator[None]:
        """Let `drop_streams` close the connections at both ends of a stream during the block."""
        self._streams.update(ends)
        try:
            yield
        finally:
            self._streams.difference_update(ends)

    def drop_streams(self) -> int:
        """Close the connections through which clients watch, and return how many there were."""
        ends = list(self._streams)
        for each in ends:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    @contextlib.contextmanager
    def broken(self, *faults: Fault) -> Iterator[list[str]]:
        """Inject faults; the value lists the requests that are made meanwhile."""
        self.faults, self.requests = list(faults), []
        try:
            yield self.requests
        finally:
            self.faults, self.requests = [], []

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Refuse connections during the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def fault(self, request: str, agent: str) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            return next((each for each in self.faults if each.takes(request, agent)), None)


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the body would wait for the client to acknowledge the headers
        timeout = 60

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

        def handle_one_request(self) -> None:
            assert isinstance(self.rfile, io.BufferedReader)
            with contextlib.suppress(ConnectionError):
                if (
                    self.rfile.peek(1)[:1] == b"\x16"
                ):  # TLS, which an engine tries first; the HTTP response makes it use HTTP
                    self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                    self.close_connection = True
                else:
                    super().handle_one_request()

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self._pass
            raise AttributeError(name)

        def _pass(self) -> None:
            body = self._body()
            what = self.headers.get("X-Amz-Target", "").rpartition(".")[2] or _action(body) or self.path
            fault = proxy.fault(f"{self.command} {what}", self.headers.get("User-Agent", ""))
            if fault is None:
                self._forward(body, None)
                return
            try:
                self._inject(fault, body)
            finally:
                fault.ended.set()

        def _inject(self, fault: Fault, body: bytes) -> None:
            time.sleep(fault.delay)
            if fault.status is not None:
                self._answer(fault.status, dict(fault.headers), fault.body)
            elif fault.keep is None and not fault.delay:
                self.close_connection = True
            else:
                self._forward(body, fault)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _forward(self, body: bytes, fault: Fault | None) -> None:
            upstream = proxy.connect()
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
            if body or self.command in ("POST", "PUT", "PATCH"):
                headers["Content-Length"] = str(len(body))
            try:
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
                if "watch=true" in self.path and answer.chunked:
                    self._stream(answer, upstream.sock)
                    return
                content = answer.read()
                length = answer.headers.get("Content-Length")
            except (OSError, http.client.HTTPException):
                self.close_connection = True
                return
            finally:
                upstream.close()
            forwarded = {k: v for k, v in answer.headers.items() if k.lower() not in HOP}
            if fault and fault.keep is not None and not fault.lie:
                self._answer(answer.status, forwarded, content[: fault.keep], length)
                self.close_connection = True
            elif fault and fault.lie:
                self._answer(answer.status, forwarded, content[: fault.keep])
            else:
                self._answer(answer.status, forwarded, content, length)

        def _stream(self, answer: http.client.HTTPResponse, upstream: socket.socket) -> None:
            """Pass on each part of a response as it comes."""
            self.send_response_only(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with proxy.streaming(self.connection, upstream):
                while part := answer.read1():
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")

        def _answer(self, status: int, headers: dict[str, str], content: bytes, length: str | None = None) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


def _action(body: bytes) -> str:
    """Return the operation of a request in AWS's query protocol."""
    found = re.search(rb"(?:^|&)Action=(\w+)", body[:2000])
    return found[1].decode() if found else ""


class Relay:
    """A socket in front of the engine's; when it is cut, clients see a stopped engine."""

    def __init__(self, path: Path, target: str = "/var/run/docker.sock") -> None:
        self.path, self._target = path, target
        self._until: bytes | None = None
        self._after = 0.0
        self._open: set[socket.socket] = set()
        self._start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def _start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    @contextlib.contextmanager
    def stops_at(self, word: bytes, after: float = 0) -> Iterator[None]:
        """Stop the relay `after` seconds after a client sends the word, until the end of the block."""
        self._until, self._after = word, after
        try:
            yield
        finally:
            assert self._until is None, f"nobody said {word!r}"
            self._start()

    def close(self) -> None:
        self._listener.close()
        self.path.unlink(missing_ok=True)
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self._target)
            except OSError:
                return
            self._open |= {client, engine}
            for pair in ((client, engine), (engine, client)):
                threading.Thread(target=self._copy, args=(*pair, pair[0] is client), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if asks and self._until and self._until in data:
                    self._until = None
                    threading.Timer(self._after, self.close).start()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        self._open.discard(source)
        if target not in self._open:  # both directions are closed
            for each in (source, target):
                each.close()
