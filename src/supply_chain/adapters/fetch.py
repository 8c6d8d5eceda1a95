"""Files that a Dockerfile adds by their URL, fetched here: BuildKit would follow redirects into any network."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from supply_chain.adapters.command import cancellation
from supply_chain.adapters.hosts import Resolve, public_addresses, resolve
from supply_chain.errors import Cancelled, FetchFailed
from supply_chain.image import Digest

REDIRECTS = 5
MOST = 1024**3
"""Bytes a file may have."""
SILENCE = 30.0
"""Seconds that a server may say nothing."""
REDIRECTED = (301, 302, 303, 307, 308)


class _Checked(httpcore.SyncBackend):
    """Connects to no address but those that were checked, so that a name cannot change its mind in between."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = public_addresses(host, port, self._resolve)
        return super().connect_tcp(addresses[0], port, timeout, local_address, socket_options)


@dataclass(frozen=True)
class Fetcher:
    """Fetches by https, from public addresses alone, and believes nothing but the checksum."""

    ca_bundle: Path | None = None
    resolve: Resolve = resolve
    most: int = MOST

    def fetch(self, url: str, checksum: Digest, target: Path, timeout: float) -> None:
        """Write what `url` gives to `target`; `timeout` in seconds.

        Raises `FetchFailed` for an answer that is none, another checksum or a redirect away from https, and
        `DockerfileRefused` where the host, or one that it redirects to, has an address of no public network.
        """
        context = ssl.create_default_context(cafile=self.ca_bundle)
        until = time.monotonic() + timeout
        backend = _Checked(self.resolve)
        with closing(httpcore.ConnectionPool(ssl_context=context, network_backend=backend)) as pool:
            at = url
            for _ in range(REDIRECTS + 1):
                if urlsplit(at).scheme != "https":
                    raise FetchFailed(f"{url} leads to {at[:300]}, which is not https.\nDeclare another URL of it.")
                further = self._ask(pool, at, checksum, target, until)
                if further is None:
                    return
                at = urljoin(at, further)
        raise FetchFailed(f"{url} leads on more than {REDIRECTS} times.\nDeclare the URL that it leads to.")

    def _ask(self, pool: httpcore.ConnectionPool, url: str, checksum: Digest, target: Path, until: float) -> str | None:
        """Fetch it, or say where it lies instead."""
        limits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), SILENCE)}
        headers = [("Host", urlsplit(url).netloc), ("User-Agent", "cscm"), ("Accept-Encoding", "identity")]
        try:
            with pool.stream("GET", url, headers=headers, extensions=limits) as answer:
                if answer.status in REDIRECTED:
                    found = {key.lower(): value for key, value in answer.headers}
                    return found.get(b"location", b"").decode("latin-1")
                if answer.status != 200:
                    raise FetchFailed(f"{url} was answered with {answer.status}.\nCheck the URL in build.fetch.urls.")
                self._write(answer, url, checksum, target, until)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError) as error:
            raise FetchFailed(
                f"{url} cannot be fetched: {error or type(error).__name__}\n"
                "Check that this machine reaches it (the chain uses no proxy), and build again."
            ) from error
        return None

    def _write(self, answer: httpcore.Response, url: str, checksum: Digest, target: Path, until: float) -> None:
        digest, size, scope = hashlib.sha256(), 0, cancellation()
        with target.open("xb") as file:
            for chunk in answer.iter_stream():
                size += len(chunk)
                if scope.cancelled:
                    raise Cancelled("The download was ended because the run was cancelled.")
                if size > self.most or time.monotonic() > until:
                    what = f"more than {self.most} bytes" if size > self.most else "longer than the build may take"
                    raise FetchFailed(f"{url} is {what}.\nFetch something smaller, or raise build.timeout.")
                digest.update(chunk)
                file.write(chunk)
        os.chmod(target, 0o600)  # noqa: PTH101 - as BuildKit gives what it fetches
        if f"sha256:{digest.hexdigest()}" != checksum:
            raise FetchFailed(
                f"{url} has the checksum sha256:{digest.hexdigest()}, and {checksum} is declared.\n"
                "Find out what changed there before you declare another."
            )
