"""Downloads of the files that a Dockerfile adds by URL; BuildKit itself would follow redirects into any network."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from supply_chain.adapters.docker.public_hosts import Resolve, resolve, resolve_public_addresses
from supply_chain.adapters.files.free_space import free_bytes
from supply_chain.adapters.process.cancellation import Cancellation, get_current_cancellation
from supply_chain.development.build import DownloadAllowance
from supply_chain.errors import Cancelled, DiskFull, FetchFailed
from supply_chain.model.image import Digest
from supply_chain.text import format_mebibytes

REDIRECTS = 5
MOST = 1024**3
"""Maximum bytes of a file."""
SILENCE = 30.0
"""Seconds that a server may send nothing."""
REDIRECTED = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class _Deadline:
    """Time by which a download has to end; a cancelled run ends it earlier."""

    url: str
    until: float
    scope: Cancellation

    def check(self) -> float:
        """Return the seconds that the server may be silent from now on.

        Raises `Cancelled` if the run is cancelled, and `FetchFailed` if the time is over.
        """
        if self.scope.cancelled:
            raise Cancelled("The download was ended because the run was cancelled.")
        left = self.until - time.monotonic()
        if left <= 0:
            raise FetchFailed(
                f"{self.url} was not fetched in the time that a build may take.\n"
                "Fetch something smaller, or raise build.timeout."
            )
        return min(SILENCE, left)

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Yield the timeout in seconds for the block."""
        try:
            yield self.check()
        except httpcore.TimeoutException:
            self.check()
            raise


class _TimedStream(httpcore.NetworkStream):
    """Connection that applies the deadline to every operation, however often the server sends data."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with self._deadline.waiting() as seconds:
            return self._stream.read(max_bytes, seconds)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with self._deadline.waiting() as seconds:
            self._stream.write(buffer, seconds)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            with self._deadline.waiting() as seconds:
                return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._deadline)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _PublicBackend(httpcore.SyncBackend):
    """Network backend that connects only to checked addresses, so that a later DNS answer cannot change them."""

    def __init__(self, resolve: Resolve, deadline: _Deadline) -> None:
        self._resolve = resolve
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = resolve_public_addresses(host, port, self._resolve)
        with self._deadline.waiting() as seconds:
            stream = super().connect_tcp(addresses[0], port, seconds, local_address, socket_options)
        return _TimedStream(stream, self._deadline)


@dataclass(frozen=True)
class _Download:
    """One download."""

    url: str
    checksum: Digest
    target: Path
    deadline: _Deadline
    allowance: DownloadAllowance


@dataclass(frozen=True)
class Fetcher:
    """Downloader that uses https and public addresses only, and accepts a file only by its checksum."""

    ca_bundle: Path | None = None
    resolve: Resolve = resolve
    most: int = MOST
    reserve: int = 0
    """Bytes that have to stay free on the file system that the files are written to."""

    def fetch(self, url: str, checksum: Digest, target: Path, timeout: float, allowance: DownloadAllowance) -> None:
        """Download `url` to the file `target`; `timeout` in seconds.

        Raises `FetchFailed` if the server does not answer with the file, the checksum differs, a size limit is
        exceeded, or a redirect leads away from https; `DockerfileRefused` if the host or a redirect's host has an
        address that is not public; and `DiskFull` if the reserve would be used.
        """
        context = ssl.create_default_context(cafile=self.ca_bundle)
        deadline = _Deadline(url, time.monotonic() + timeout, get_current_cancellation())
        backend = _PublicBackend(self.resolve, deadline)
        download = _Download(url, checksum, target, deadline, allowance)
        with closing(httpcore.ConnectionPool(ssl_context=context, network_backend=backend)) as pool:
            at = url
            for _ in range(REDIRECTS + 1):
                location = self._request(pool, _checked_url(url, at), download)
                if location is None:
                    return
                at = _join_url(url, at, location)
        raise FetchFailed(f"{url} leads on more than {REDIRECTS} times.\nDeclare the URL that it leads to.")

    def _request(self, pool: httpcore.ConnectionPool, at: str, download: _Download) -> str | None:
        """Download the file, or return the location that the server redirects to."""
        headers = [("Host", urlsplit(at).netloc), ("User-Agent", "cscm"), ("Accept-Encoding", "identity")]
        try:
            with pool.stream("GET", at, headers=headers) as answer:
                if answer.status in REDIRECTED:
                    answer_headers = {key.lower(): value for key, value in answer.headers}
                    return answer_headers.get(b"location", b"").decode("latin-1")
                if answer.status != 200:
                    raise FetchFailed(f"{at} was answered with {answer.status}.\nCheck the URL in build.fetch.urls.")
                self._write(answer, download)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError) as error:
            raise FetchFailed(
                f"{at} cannot be fetched: {str(error) or type(error).__name__}\n"
                "Check that this machine reaches it (the chain uses no proxy), and build again."
            ) from error
        return None

    def _write(self, answer: httpcore.Response, download: _Download) -> None:
        digest, size = hashlib.sha256(), 0
        with download.target.open("xb") as file:
            for chunk in answer.iter_stream():
                size += len(chunk)
                download.deadline.check()
                self._check_size(size, len(chunk), download)
                digest.update(chunk)
                file.write(chunk)
        os.chmod(download.target, 0o600)  # noqa: PTH101 - the mode that BuildKit sets on fetched files
        if f"sha256:{digest.hexdigest()}" != download.checksum:
            # Do not report the actual checksum: it would reveal what hosts answer to this machine.
            raise FetchFailed(
                f"{download.url} does not have the checksum {download.checksum}, which is declared.\n"
                "Find out what changed there before you declare another."
            )

    def _check_size(self, size: int, more: int, download: _Download) -> None:
        """Raise an error if the file, all files of the build together, or the file system exceeds its limit."""
        if size > self.most:
            raise FetchFailed(
                f"{download.url} is more than {self.most} bytes, the limit of one file.\nFetch something smaller."
            )
        if not download.allowance.take(more):
            raise FetchFailed(
                f"{download.url} is not fetched to its end: the files that one build adds by URL may have "
                f"{format_mebibytes(download.allowance.most)} together.\nFetch fewer or smaller files."
            )
        place = download.target.parent
        if self.reserve and (free := free_bytes(place)) - more < self.reserve:
            raise DiskFull(
                f"{download.url} is not fetched to its end: {format_mebibytes(free)} are free at {place}, and "
                f"{format_mebibytes(self.reserve)} have to stay.\n"
                "Make room there, set TMPDIR to a larger file system, or lower `build_reserve` in the block of the "
                "container host."
            )


def _checked_url(url: str, at: str) -> str:
    """Return `at`, the URL that `url` is or redirects to; raise `FetchFailed` if it is not a valid https URL."""
    try:
        at.encode("ascii")
        parts = urlsplit(at)
        _ = parts.port
    except ValueError as error:
        raise _invalid_url(url, at) from error
    if parts.scheme != "https":
        raise FetchFailed(f"{url} leads to {at[:300]}, which is not https.\nDeclare another URL of it.")
    return at


def _join_url(url: str, at: str, location: str) -> str:
    try:
        return urljoin(at, location)
    except ValueError as error:
        raise _invalid_url(url, location) from error


def _invalid_url(url: str, at: str) -> FetchFailed:
    return FetchFailed(f"{url} leads to {at[:300]!r}, which is not a URL.\nDeclare another URL of the file.")
