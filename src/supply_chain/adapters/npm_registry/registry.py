"""Find what registries of npm published as an installed package."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urljoin

import httpx

from supply_chain.adapters.download import LARGEST_FILE, Downloader
from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.files.published_cache import PublishedCache
from supply_chain.adapters.image.npm_packages import METADATA, NpmPublished, describe_entry, is_compared
from supply_chain.adapters.process.cancellation import sleep
from supply_chain.scratch import make_scratch_directory

FORMAT = 1
"""Number of the cache's format; raise it when other files of a package are read."""
LARGEST_MANIFEST, LARGEST_METADATA = 16 * 1024**2, 4 * 1024**2
"""Maximum bytes of a registry's document about a version, and of a package's own."""
MOST_FILES, MOST_BYTES = 200_000, 2 * 1024**3
"""Maximum files of a package that are read, and their maximum bytes."""
NAME = re.compile(r"(@[\w~.-]+/)?[\w~!'()*-][\w~!'()*.-]*", re.ASCII)
"""A package's name; old ones have capital letters."""
VERSION = re.compile(r"v?(\d+\.\d+\.\d+[0-9A-Za-z.+-]*)", re.ASCII)
"""A version; the group is how a registry spells it."""
ALGORITHMS = ("sha512", "sha384", "sha256", "sha1")
"""Algorithms of a package's digest, the strongest first (W3C, "Subresource Integrity"; old ones have SHA-1)."""
INVALID = (tarfile.TarError, zlib.error, OSError, EOFError, ValueError)
"""Errors that reading an invalid package can raise."""
WINDOWS_INTERPRETER = re.compile(rb"\A(#![^\n]+)\r\n")
"""First line of a script that names its interpreter, with an end that Linux does not take."""


@dataclass(frozen=True)
class NpmRegistries:
    """Registries by their URLs; see `adapters.image.npm_packages.NpmRegistry`.

    The first one that has a version counts. What it publishes as a version does not change, so it is cached in `cache`.
    """

    urls: tuple[str, ...]
    cache: PrivateFiles
    ca_bundle: Path | None = None
    transport: httpx.BaseTransport | None = field(default=None, compare=False)
    wait: Callable[[float], object] = field(default=sleep, compare=False)

    def find(self, name: str, version: str) -> NpmPublished:
        """Return what the registries published as this package.

        Raises `PackageIndexUnavailable` if one does not answer, and `PackageIndexFailed` if its answer cannot be used.
        """
        key = self.urls, name, version
        if (cached := self._published.read(*key)) is not None:
            return cached
        listed = self._read_version(name, version)
        if listed is None:
            return NpmPublished(has_name=self.has_name(name), has_version=False)
        published = self._read_package(*listed)
        self._published.write(published, *key)
        return published

    def has_name(self, name: str) -> bool:
        """Return whether a registry has a package of this name; raise as `find` does."""
        return NAME.fullmatch(name) is not None and self._read_manifest(name, "latest") is not None

    def forget_unused(self) -> None:
        """Remove what nobody asked for recently."""
        self._published.forget_unused()

    def _read_version(self, name: str, version: str) -> tuple[str, dict[str, Any]] | None:
        """Return a URL and its document about a version; None if there is no such version, spelled so."""
        spelled = VERSION.fullmatch(version)
        if not (spelled and NAME.fullmatch(name)):
            return None
        listed = self._read_manifest(name, spelled[1])
        stated = (listed[1].get("name"), listed[1].get("version")) if listed else ()
        return listed if stated == (name, spelled[1]) else None

    def _read_manifest(self, name: str, version: str) -> tuple[str, dict[str, Any]] | None:
        """Return a URL and its document about a version or tag, of the first registry that has it; None if none has."""
        for registry in self.urls:
            url, content = f"{registry.rstrip('/')}/{quote(name, safe='@')}/{quote(version, safe='')}", io.BytesIO()
            if self._downloader.fetch(url, {"Accept": "application/json"}, content, LARGEST_MANIFEST) is None:
                continue
            try:
                manifest = json.loads(content.getvalue())
            except (ValueError, RecursionError) as error:
                raise self._downloader.make_answer_error(url, f"its answer is not JSON ({error})") from error
            if not isinstance(manifest, dict):
                raise self._downloader.make_answer_error(url, "its answer is not an object")
            return url, manifest
        return None

    def _read_package(self, address: str, manifest: Mapping[str, Any]) -> NpmPublished:
        """Download a package; raise `PackageIndexFailed` if it is missing, invalid, or has another digest."""
        about = manifest.get("dist")
        if not (isinstance(about, dict) and isinstance(about.get("tarball"), str)):
            raise self._downloader.make_answer_error(address, "its answer names no package")
        url = urljoin(address, about["tarball"])
        with make_scratch_directory("package") as work, (work / "package").open("w+b") as package:
            if self._downloader.fetch(url, {"Accept-Encoding": "identity"}, package, LARGEST_FILE) is None:
                raise self._downloader.make_answer_error(url, "the registry lists it, and it is not there")
            algorithm, digest = _select_digest(about)
            package.seek(0)
            if not algorithm or hashlib.file_digest(package, algorithm).digest() != digest:
                raise self._downloader.make_answer_error(url, "it does not have the digest that the registry lists")
            package.seek(0)
            try:
                return read_package(package)
            except INVALID as error:
                raise self._downloader.make_answer_error(url, f"it is not a valid package ({error})") from error

    @cached_property
    def _published(self) -> PublishedCache[NpmPublished]:
        return PublishedCache(self.cache, _decode, FORMAT)

    @cached_property
    def _downloader(self) -> Downloader:
        return Downloader("npm packages", "npm_registries", self.ca_bundle, self.transport, self.wait)


def _select_digest(about: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return the strongest digest that a registry lists, and its algorithm; empty if it lists none that is valid."""
    listed = dict(each.split("?")[0].partition("-")[::2] for each in str(about.get("integrity") or "").split())
    try:
        for algorithm in ALGORITHMS:
            if algorithm in listed:
                return algorithm, base64.b64decode(listed[algorithm], validate=True)
        return ("sha1", bytes.fromhex(about["shasum"])) if about.get("shasum") else ("", b"")
    except (ValueError, TypeError):
        return "", b""


def read_package(package: IO[bytes]) -> NpmPublished:
    """Return what a package consists of (a tar file, by gzip); raise one of `INVALID`."""
    digests, entry, room = dict[str, tuple[bytes, ...]](), "{}", MOST_BYTES
    with tarfile.open(fileobj=package, mode="r:gz") as archive:
        for number, member in enumerate(archive, start=1):
            room -= member.size
            if room < 0 or number > MOST_FILES:
                raise ValueError(f"it has more than {MOST_FILES} files or {MOST_BYTES} bytes")
            path = posixpath.normpath(member.name).partition("/")[2]
            content = archive.extractfile(member) if member.isfile() else None  # npm unpacks no links
            if content is None or not is_compared(path):
                continue
            first = content.read(LARGEST_METADATA)
            digests[path] = _digest(first, content)
            if path == METADATA:
                entry = describe_entry(first)
    return NpmPublished(files=digests, entry=entry)


def _digest(first: bytes, rest: IO[bytes]) -> tuple[bytes, ...]:
    """Return the SHA-256 of a file that begins with `first`, and that of what installers make of it.

    They end the line of a script that names its interpreter as Linux needs it (npm's bin-links, fix-bin.js).
    """
    starts = {first, WINDOWS_INTERPRETER.sub(rb"\1\n", first)}
    digests = [hashlib.sha256(each) for each in sorted(starts)]
    while chunk := rest.read(LARGEST_METADATA):
        for digest in digests:
            digest.update(chunk)
    return tuple(digest.digest() for digest in digests)


def _decode(stored: Mapping[str, Any]) -> NpmPublished:
    files = {path: tuple(map(bytes.fromhex, digests)) for path, digests in stored["files"].items()}
    return NpmPublished(files=files, entry=stored["entry"])
