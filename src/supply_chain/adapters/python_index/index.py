"""Find what package indexes published as an installed package."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import httpx
from packaging.utils import InvalidName, canonicalize_name

from supply_chain.adapters.download import LARGEST_FILE, Downloader
from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.files.published_cache import PublishedCache
from supply_chain.adapters.image.python_packages import InstalledPackage, Published
from supply_chain.adapters.image.wheel import INVALID_WHEEL, read_wheel
from supply_chain.adapters.process.cancellation import sleep
from supply_chain.adapters.python_index.distributions import INVALID, read_source
from supply_chain.adapters.python_index.pages import ACCEPT, IndexFile, parse_page, select_version
from supply_chain.scratch import make_scratch_directory

FORMAT = 1
"""Number of the cache's format; raise it when other files of a wheel or a source are read."""
LARGEST_PAGE = 64 * 1024**2
TAIL = 512 * 1024
"""Bytes at the end of a wheel that are fetched first: they contain the list of its files, and mostly its record."""
MOST_WHEELS = 20
"""Maximum wheels of a version that are compared with an installed package."""


@dataclass(frozen=True)
class PythonIndexes:
    """Package indexes by their URLs; see `adapters.image.python_packages.PackageIndex`.

    What an index publishes as a version does not change, so it is cached in `cache`.
    """

    urls: tuple[str, ...]
    cache: PrivateFiles
    ca_bundle: Path | None = None
    transport: httpx.BaseTransport | None = field(default=None, compare=False)
    wait: Callable[[float], object] = field(default=sleep, compare=False)
    _sources: dict[str, Mapping[str, bytes]] = field(default_factory=dict, init=False, compare=False)
    """URL → files of each source distribution that was read: an image can ask for one under many metadata."""
    _pages: dict[str, list[IndexFile] | None] = field(default_factory=dict, init=False, compare=False)

    def find(self, package: InstalledPackage) -> Published:
        """Return what the indexes published as this package.

        Raises `PackageIndexUnavailable` if one does not answer, and `PackageIndexFailed` if its answer cannot be used.
        """
        key = self.urls, package.name, package.version, package.metadata, package.wheel
        if (cached := self._published.read(*key)) is not None:
            return cached
        published = self._find(package)
        if published.files:
            self._published.write(published, *key)
        return published

    def forget_unused(self) -> None:
        """Remove what nobody asked for recently."""
        self._published.forget_unused()

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
        sources = {path: digest for file in files.sources for path, digest in self._read_source(file).items()}
        return Published(has_version=bool(files.wheels or files.sources), sources=sources)

    def _read_page(self, address: str) -> list[IndexFile] | None:
        """Return the files of a project; None if the index has no project with this name."""
        if address not in self._pages:
            self._pages[address] = self._download_page(address)
        return self._pages[address]

    def _download_page(self, address: str) -> list[IndexFile] | None:
        content = io.BytesIO()
        answer = self._downloader.fetch(address, {"Accept": ACCEPT}, content, LARGEST_PAGE)
        if answer is None:
            return None
        try:
            return parse_page(content.getvalue(), answer.headers.get("content-type", ""), str(answer.url))
        except ValueError as error:
            raise self._downloader.make_answer_error(
                address, f"its answer is not a page of an index ({error})"
            ) from error

    def _read_wheel(self, file: IndexFile) -> dict[str, bytes]:
        with make_scratch_directory("wheel") as work, (work / "wheel").open("w+b") as wheel:
            with suppress(*INVALID_WHEEL):
                if self._download(file, wheel, {"Range": f"bytes=-{TAIL}"}):
                    return read_wheel(wheel)
            self._download_all(file, wheel)
            try:
                return read_wheel(wheel)
            except INVALID_WHEEL as error:
                raise self._downloader.make_answer_error(file.url, f"it is not a valid wheel ({error})") from error

    def _read_source(self, file: IndexFile) -> Mapping[str, bytes]:
        """Return the files of a source distribution; cached by its own digest, because metadata are as written."""
        if file.url not in self._sources:
            key = "source", file.url, file.sha256
            published = self._published.read(*key) if file.sha256 else None
            if published is None:
                published = Published(sources=self._download_source(file))
                if file.sha256:
                    self._published.write(published, *key)
            self._sources[file.url] = published.sources
        return self._sources[file.url]

    def _download_source(self, file: IndexFile) -> Mapping[str, bytes]:
        with make_scratch_directory("source") as work:
            path = work / "source"
            with path.open("w+b") as source:
                self._download_all(file, source)
            try:
                return read_source(path)
            except INVALID as error:
                raise self._downloader.make_answer_error(file.url, f"it is not a valid archive ({error})") from error

    def _download_all(self, file: IndexFile, target: IO[bytes]) -> None:
        """Write a file that an index lists; raise `PackageIndexFailed` if it is missing or has another digest."""
        if not self._download(file, target, {}):
            raise self._downloader.make_answer_error(file.url, "the index lists it, and it is not there")
        target.seek(0)
        digest = hashlib.file_digest(target, "sha256").hexdigest()  # type: ignore[arg-type]
        if file.sha256 and file.sha256 != digest:
            raise self._downloader.make_answer_error(
                file.url, f"it has the SHA-256 {digest}, and the index lists {file.sha256}"
            )

    def _download(self, file: IndexFile, target: IO[bytes], headers: Mapping[str, str]) -> bool:
        """Write a file, or the part of it that the server gives, to its place in `target`.

        Returns False if the server does not have the file, or gives no such part of it.
        """
        request_headers = {"Accept-Encoding": "identity", **headers}
        return self._downloader.fetch(file.url, request_headers, target, LARGEST_FILE) is not None

    @cached_property
    def _published(self) -> PublishedCache[Published]:
        return PublishedCache(self.cache, _decode, FORMAT)

    @cached_property
    def _downloader(self) -> Downloader:
        return Downloader("Python packages", "python_indexes", self.ca_bundle, self.transport, self.wait)


def _decode(stored: Mapping[str, Any]) -> Published:
    files, sources = (
        {path: bytes.fromhex(digest) for path, digest in stored[each].items()} for each in ("files", "sources")
    )
    return Published(files=files, sources=sources)
