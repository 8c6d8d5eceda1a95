"""Find what package indexes published as an installed package."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

import httpx
from packaging.utils import InvalidName, canonicalize_name

from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.image.python_packages import InstalledPackage, Published
from supply_chain.adapters.process.cancellation import cancellation
from supply_chain.adapters.python_index.distributions import INVALID, read_source, read_wheel
from supply_chain.adapters.python_index.pages import ACCEPT, IndexFile, parse_page, select_version
from supply_chain.adapters.tls import share
from supply_chain.errors import PackageIndexUnavailable
from supply_chain.scratch import scratch

LARGEST_PAGE = 64 * 1024**2
LARGEST_FILE = 2 * 1024**3
TAIL = 512 * 1024
"""Bytes at the end of a wheel that are fetched first: they contain the list of its files, and mostly its record."""
MOST_WHEELS = 20
"""Maximum wheels of a version that are compared with an installed package."""
PAUSES = (0.5, 2.0)
"""Seconds before each further attempt."""
UNUSED = 60 * 24 * 3600.0
"""Seconds after which what was published is forgotten, if nobody asked for it."""


@dataclass(frozen=True)
class PythonIndexes:
    """Package indexes by their URLs; see `adapters.image.python_packages.PackageIndex`.

    What an index publishes as a version does not change, so it is cached in `cache`.
    """

    urls: tuple[str, ...]
    cache: PrivateFiles
    ca_bundle: Path | None = None
    transport: httpx.BaseTransport | None = field(default=None, compare=False)
    wait: Callable[[float], object] = field(default=lambda seconds: cancellation().wait(seconds), compare=False)

    def find(self, package: InstalledPackage) -> Published:
        """Return what the indexes published as this package; raise `PackageIndexUnavailable`."""
        key = self._key(package)
        cached = self.cache.read(*key)
        if cached is not None:
            return _decode(cached)
        found = self._find(package)
        if found.files or found.sources:
            self.cache.write(*key, _encode(found))
        return found

    def forget_unused(self) -> None:
        """Remove what nobody asked for recently."""
        self.cache.forget_unused(UNUSED)

    def _key(self, package: InstalledPackage) -> tuple[str, str]:
        asked = [self.urls, package.name, package.version, package.metadata.hex(), package.wheel.hex()]
        name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return name[:2], name[2:]

    def _find(self, package: InstalledPackage) -> Published:
        try:
            name = canonicalize_name(package.name, validate=True)
        except InvalidName:
            return Published(has_name=False)
        pages = [page for url in self.urls if (page := self._read_page(f"{url.rstrip('/')}/{name}/")) is not None]
        if not pages:
            return Published(has_name=False)
        files = select_version((file for page in pages for file in page), package)
        for wheel in files.wheels[:MOST_WHEELS]:
            published = self._read_wheel(wheel)
            if package.is_of(published):
                return Published(files=published)
        sources = frozenset(digest for file in files.sources for digest in self._read_source(file))
        return Published(has_version=bool(files.wheels or files.sources), sources=sources)

    def _read_page(self, address: str) -> list[IndexFile] | None:
        """Return the files of a project; None if the index has no project with this name."""
        with self._open(address, {"Accept": ACCEPT}) as answer:
            if answer.status_code == 404:
                return None
            content = b"".join(_limit(answer, address, LARGEST_PAGE))
            try:
                return parse_page(content, answer.headers.get("content-type", ""), str(answer.url))
            except ValueError as error:
                raise _unavailable(address, f"its answer is no page of an index ({error})") from error

    def _read_wheel(self, file: IndexFile) -> dict[str, bytes]:
        with scratch("wheel") as work, (work / file.name).open("w+b") as wheel:
            self._download(file, wheel, {"Range": f"bytes=-{TAIL}"})
            try:
                return read_wheel(wheel)
            except INVALID:
                wheel.truncate(0)
            digest = self._download(file, wheel, {})
            _require_digest(file, digest)
            try:
                return read_wheel(wheel)
            except INVALID as error:
                raise _unavailable(file.url, f"it is no valid wheel ({error})") from error

    def _read_source(self, file: IndexFile) -> frozenset[bytes]:
        with scratch("source") as work:
            path = work / "source"
            with path.open("w+b") as source:
                _require_digest(file, self._download(file, source, {}))
            try:
                return read_source(path)
            except INVALID as error:
                raise _unavailable(file.url, f"it is no valid archive ({error})") from error

    def _download(self, file: IndexFile, target: IO[bytes], headers: dict[str, str]) -> str:
        """Write a file, or the part of it that the server gives, to its place in `target`; return its SHA-256."""
        digest = hashlib.sha256()
        with self._open(file.url, headers) as answer:
            if answer.status_code == 404:
                raise _unavailable(file.url, "the index lists it, and it is not there")
            start = _parse_range(answer) if answer.status_code == 206 else 0
            target.seek(start)
            for chunk in _limit(answer, file.url, LARGEST_FILE):
                digest.update(chunk)
                target.write(chunk)
        target.flush()
        return digest.hexdigest()

    @contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Yield the answer to a request, which is successful or 404; repeat it where that can help."""
        answer = self._send(url, headers)
        try:
            yield answer
        except httpx.HTTPError as error:
            raise _unavailable(url, str(error) or type(error).__name__) from error
        finally:
            answer.close()

    def _send(self, url: str, headers: dict[str, str]) -> httpx.Response:
        why = ""
        for pause in (*PAUSES, None):
            try:
                answer = self._client.send(self._client.build_request("GET", url, headers=headers), stream=True)
                if answer.is_success or answer.status_code == 404:
                    return answer
                answer.close()
                why = f"it answers {answer.status_code}"
                if answer.status_code < 500 and answer.status_code != 429:
                    break
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                why = str(error) or type(error).__name__
            if pause is not None:
                self.wait(pause)
        raise _unavailable(url, why)

    @cached_property
    def _client(self) -> httpx.Client:
        if self.transport is not None:
            return httpx.Client(transport=self.transport, follow_redirects=True)
        context = share(ssl.create_default_context(cafile=self.ca_bundle))
        return httpx.Client(verify=context, follow_redirects=True, timeout=30.0)


def _limit(answer: httpx.Response, url: str, most: int) -> Iterator[bytes]:
    size = 0
    for chunk in answer.iter_bytes():
        size += len(chunk)
        if size > most:
            raise _unavailable(url, f"it has more than {most} bytes")
        yield chunk


def _parse_range(answer: httpx.Response) -> int:
    """Return the first byte of a partial answer (RFC 9110, "Content-Range")."""
    unit, _, given = answer.headers.get("content-range", "").partition(" ")
    start = given.partition("-")[0]
    if unit != "bytes" or not start.isdecimal() or int(start) > LARGEST_FILE:
        raise _unavailable(str(answer.url), "it answers with a part, and does not say which")
    return int(start)


def _require_digest(file: IndexFile, digest: str) -> None:
    if file.sha256 and file.sha256 != digest:
        raise _unavailable(file.url, f"it has the SHA-256 {digest}, and the index lists {file.sha256}")


def _unavailable(url: str, why: str) -> PackageIndexUnavailable:
    return PackageIndexUnavailable(
        f"{url} cannot be read: {why}\n"
        "The Python packages of an image are compared with it. Check `python_indexes` in the workbench's block, and "
        "that this machine reaches them."
    )


def _encode(published: Published) -> bytes:
    files = {path: digest.hex() for path, digest in published.files.items()}
    return json.dumps({"files": files, "sources": [each.hex() for each in published.sources]}).encode()


def _decode(content: bytes) -> Published:
    stored = json.loads(content)
    files = {path: bytes.fromhex(digest) for path, digest in stored["files"].items()}
    return Published(files=files, sources=frozenset(map(bytes.fromhex, stored["sources"])))
