"""Find what archives of Debian packages published as the packages of an image."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import posixpath
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

import httpx

from supply_chain.adapters.debian_archive.binary_package import (
    INVALID,
    PackageFiles,
    UnpackedXz,
    read_binary_package,
)
from supply_chain.adapters.debian_archive.indexes import Entry, Listed, Release, parse_packages, parse_release
from supply_chain.adapters.download import LARGEST_FILE, Downloader
from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.files.published_cache import PublishedCache
from supply_chain.adapters.image.debian_packages import PublishedPackage
from supply_chain.adapters.image.debian_version import make_version_key
from supply_chain.adapters.image.dpkg_records import ALL, DebianPackage
from supply_chain.adapters.process.cancellation import sleep
from supply_chain.concurrency import map_concurrently
from supply_chain.evidence.examination import Identity
from supply_chain.scratch import make_scratch_directory

FORMAT = 2
"""Number of the cache's format; raise it when other facts about a package are read."""
LARGEST_RELEASE, LARGEST_INDEX, LARGEST_UNPACKED = 16 * 1024**2, 128 * 1024**2, 1024**3
"""Maximum bytes of a `Release`, of a compressed `Packages`, and of an unpacked one."""
MOST_BYTES = 4 * 1024**3
"""Maximum bytes of the packages of an image that are downloaded."""
INDEXES = ("Packages.xz", "Packages.gz")
"""Names of the list of packages, in the order in which they are tried."""
COMMON = "amd64"
"""Architecture whose list of packages is read if no package of the image has one of the archive's architectures."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_CacheKey = tuple[str, ...]


@dataclass(frozen=True)
class _Suite:
    """A line of `debian_archives`."""

    url: str
    suite: str
    components: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> _Suite:
        url, suite, *components = line.split()
        return cls(url.rstrip("/"), suite, tuple(components))

    @property
    def directory(self) -> str:
        """The address of the suite's indexes."""
        return f"{self.url}/dists/{self.suite}"


@dataclass(frozen=True)
class _SuiteEntry:
    """A package that an archive has, and where."""

    suite: _Suite
    entry: Entry


@dataclass(frozen=True)
class DebianArchives:
    """Archives by lines such as in sources.list(5); see `adapters.image.debian_packages.DebianArchive`.

    Each `Packages` is verified by the digest in `Release`, and each package by the digest in `Packages`. The signature
    of `Release` is not verified, as no list of archives' keys is on every machine: TLS authenticates it, so name no
    archive by http in a network that others can change. What an archive publishes as a version does not change, so it
    is cached in `cache`, and counts also when the archive has dropped it.
    """

    lines: tuple[str, ...]
    cache: PrivateFiles
    ca_bundle: Path | None = None
    transport: httpx.BaseTransport | None = field(default=None, compare=False)
    wait: Callable[[float], object] = field(default=sleep, compare=False)

    def find(
        self, packages: Collection[DebianPackage], distribution: Identity | None
    ) -> Mapping[DebianPackage, PublishedPackage]:
        """Return what the archives published as each package.

        Raises `PackageIndexUnavailable` if one does not answer, `PackageIndexFailed` if its answer cannot be used, and
        `ValueError` for packages that have more than `MOST_BYTES` together.
        """
        published = self._read_cache(packages, distribution)
        others = [each for each in packages if each not in published]
        return published | self._find(others, distribution) if others else published

    def find_paths(
        self, packages: Collection[DebianPackage], distribution: Identity | None
    ) -> Mapping[DebianPackage, Set[str]]:
        """Return where other versions of each package have files: the newest one for its architecture in each suite.

        Raises as `find` does.
        """
        releases = self._read_releases()
        near = _select_near(releases, distribution)
        far = self._list([each for each in releases if each not in near], releases, packages)
        listed = self._list(near, releases, packages)
        entries = _group_by_identity(far) | _group_by_identity(listed)  # of one in both, `find` takes the near ones
        identities = {(each.name, each.architecture) for each in packages}
        newest = [each for each in _select_newest((*far, *listed)) if (each.name, each.architecture) in identities]
        paths = defaultdict[tuple[str, str], set[str]](set)
        versions = {each: entries[_identify(each)] for each in newest}
        for package, published in self._read_versions(versions, distribution).items():
            paths[package.name, package.architecture] |= published.files.keys()
        return {each: paths[each.name, each.architecture] for each in packages}

    def _read_versions(
        self, entries: Mapping[DebianPackage, Collection[_SuiteEntry]], distribution: Identity | None
    ) -> dict[DebianPackage, PublishedPackage]:
        """Return what is published as each package, from the cache or by its entries."""
        published = self._read_cache(entries, distribution)
        others = [each for each in entries if each not in published]
        self._check_size(entries[each] for each in others)
        read = map_concurrently(
            lambda each: self._read_published(entries[each], self._make_cache_key(each, distribution)), others
        )
        return published | dict(zip(others, read, strict=True))

    def forget_unused(self) -> None:
        """Remove what nobody asked for recently."""
        self._published.forget_unused()

    def _find(
        self, packages: Sequence[DebianPackage], distribution: Identity | None
    ) -> dict[DebianPackage, PublishedPackage]:
        releases = self._read_releases()
        near = _select_near(releases, distribution)
        listed = self._list(near, releases, packages)
        entries = _match(packages, listed)
        named = {each.entry.package.name for each in listed}
        if missing := [each for each in packages if not entries[each]]:
            more = self._list([each for each in releases if each not in near], releases, missing)
            entries |= _match(missing, more)
            named |= {each.entry.package.name for each in more}
        published = self._read_versions({each: several for each, several in entries.items() if several}, distribution)
        by_name = _group_by_name(listed) if any(_is_of(each, distribution) for each in releases.values()) else {}
        others = {each: _describe_missing(each, each.name in named, by_name.get(each.name, ())) for each in packages}
        return others | published

    def _list(
        self, suites: Sequence[_Suite], releases: Mapping[_Suite, Release], packages: Collection[DebianPackage]
    ) -> list[_SuiteEntry]:
        """Return every package of these names that the suites have."""
        names, architectures = {each.name for each in packages}, {each.architecture for each in packages}
        lists = [
            (suite, index)
            for suite in suites
            for index in _select_indexes(releases[suite], suite.components, architectures)
        ]
        entries = (self._read_packages(suite, releases[suite], index, names) for suite, index in lists)
        return [_SuiteEntry(suite, entry) for (suite, _), each in zip(lists, entries, strict=True) for entry in each]

    def _read_releases(self) -> dict[_Suite, Release]:
        suites = [_Suite.parse(line) for line in self.lines]
        return dict(zip(suites, map_concurrently(self._read_release, suites), strict=True))

    def _read_release(self, suite: _Suite) -> Release:
        for name in ("InRelease", "Release"):
            url, content = f"{suite.directory}/{name}", io.BytesIO()
            if self._downloader.fetch(url, {}, content, LARGEST_RELEASE) is not None:
                try:
                    return parse_release(content.getvalue())
                except ValueError as error:
                    raise self._downloader.make_answer_error(url, f"it is not a list of files ({error})") from error
        raise self._downloader.make_answer_error(f"{suite.directory}/Release", "it is not there")

    def _read_packages(self, suite: _Suite, release: Release, index: Listed, names: Set[str]) -> list[Entry]:
        by_hash = f"{posixpath.dirname(index.path)}/by-hash/SHA256/{index.sha256}"
        url = f"{suite.directory}/{by_hash if release.by_hash else index.path}"
        key = ("indexes", index.sha256)
        packed = self.cache.read(*key)
        if packed is None or hashlib.sha256(packed).hexdigest() != index.sha256:  # as after a crash
            content = io.BytesIO()
            self._download(url, index, content, LARGEST_INDEX)
            packed = content.getvalue()
            self.cache.write(*key, packed)
        try:
            return list(parse_packages(_unpack(index.path, packed), names, LARGEST_UNPACKED))
        except (ValueError, lzma.LZMAError, zlib.error, OSError, EOFError) as error:
            raise self._downloader.make_answer_error(url, f"it is not a list of packages ({error})") from error

    def _read_published(self, entries: Collection[_SuiteEntry], cache_key: _CacheKey) -> PublishedPackage:
        digests, links = defaultdict[str, set[bytes]](set), defaultdict[str, set[str]](set)
        code = set[str]()
        for each in {each.entry.file.sha256: each for each in entries}.values():
            files = self._read_files(each.suite, each.entry.file)
            code |= files.code
            for path, digest in files.digests.items():
                digests[path].add(digest)
            for path, target in files.links.items():
                links[path].add(target)
        sources = frozenset(each.entry.package.source for each in entries)
        published = PublishedPackage(sources=sources, files=digests, code=code, links=links)
        self._published.write(published, *cache_key)
        return published

    def _read_files(self, suite: _Suite, file: Listed) -> PackageFiles:
        url = f"{suite.url}/{quote(file.path, safe='/%')}"
        with make_scratch_directory("deb") as work, (work / "deb").open("w+b") as package:
            self._download(url, file, package, LARGEST_FILE)
            try:
                return read_binary_package(package)
            except INVALID as error:
                raise self._downloader.make_answer_error(url, f"it is not a valid package ({error})") from error

    def _download(self, url: str, file: Listed, target: IO[bytes], most: int) -> None:
        """Write a file that an index lists; raise `PackageIndexFailed` if it is missing or is another one."""
        if self._downloader.fetch(url, {"Accept-Encoding": "identity"}, target, min(most, file.size)) is None:
            raise self._downloader.make_answer_error(url, "the archive lists it, and it is not there")
        target.seek(0)
        digest = hashlib.file_digest(target, "sha256").hexdigest()  # type: ignore[arg-type]
        if file.sha256 != digest:
            raise self._downloader.make_answer_error(
                url, f"it has the SHA-256 {digest}, and the archive lists {file.sha256}"
            )

    @staticmethod
    def _check_size(entries: Iterable[Collection[_SuiteEntry]]) -> None:
        sizes = {each.entry.file.sha256: each.entry.file.size for several in entries for each in several}
        if (size := sum(sizes.values())) > MOST_BYTES:
            raise ValueError(f"its Debian packages have {size} bytes, more than {MOST_BYTES}")

    def _make_cache_key(self, package: DebianPackage, distribution: Identity | None) -> _CacheKey:
        """Return what is cached by: other archives, or another distribution, have other packages."""
        return (*_identify(package), *sorted(self.lines), str(distribution))

    def _read_cache(
        self, packages: Iterable[DebianPackage], distribution: Identity | None
    ) -> dict[DebianPackage, PublishedPackage]:
        """Return what is cached of these packages."""
        cached = ((each, self._published.read(*self._make_cache_key(each, distribution))) for each in packages)
        return {package: published for package, published in cached if published is not None}

    @cached_property
    def _published(self) -> PublishedCache[PublishedPackage]:
        return PublishedCache(self.cache, _decode, FORMAT)

    @cached_property
    def _downloader(self) -> Downloader:
        return Downloader("Debian packages", "debian_archives", self.ca_bundle, self.transport, self.wait)


def _is_of(release: Release, distribution: Identity | None) -> bool:
    """Return whether a suite is of a distribution's release, such as 12.5 or 12-updates of Debian 12.

    Scanners go by the number's beginning, or by the code name.
    """
    if distribution is None or release.origin.lower() != distribution.id.lower():
        return False
    number, codename = _NUMBER.match(distribution.version), distribution.codename
    listed = _NUMBER.match(release.version)
    if number and listed:
        return int(number[0]) == int(listed[0])
    return bool(codename) and release.codename.partition("-")[0] == codename


def _select_near(releases: Mapping[_Suite, Release], distribution: Identity | None) -> list[_Suite]:
    """Return the suites of a distribution's release, and those of other origins than these."""
    own = [each for each, release in releases.items() if _is_of(release, distribution)]
    origins = {releases[each].origin for each in own}
    return [each for each, release in releases.items() if each in own or release.origin not in origins]


def _select_indexes(release: Release, components: Iterable[str], architectures: Set[str]) -> Iterator[Listed]:
    """Yield the list of packages of each component and architecture, and those for every machine."""
    names = sorted((architectures & {*release.architectures}) - {ALL}) or [COMMON]
    for component in components:
        for architecture in (*names, *([ALL] if release.has_all else [])):
            paths = (f"{component}/binary-{architecture}/{name}" for name in INDEXES)
            index = next((release.files[path] for path in paths if path in release.files), None)
            if index is not None and index.size:
                yield index


def _match(
    packages: Iterable[DebianPackage], listed: Collection[_SuiteEntry]
) -> dict[DebianPackage, list[_SuiteEntry]]:
    """Return what has the name, version and architecture of each package."""
    by_identity = _group_by_identity(listed)
    return {each: by_identity.get(_identify(each), []) for each in packages}


def _group_by_identity(listed: Iterable[_SuiteEntry]) -> dict[tuple[str, str, str], list[_SuiteEntry]]:
    by_identity = defaultdict[tuple[str, str, str], list[_SuiteEntry]](list)
    for each in listed:
        by_identity[_identify(each.entry.package)].append(each)
    return by_identity


def _identify(package: DebianPackage) -> tuple[str, str, str]:
    return package.name, package.version, package.architecture


def _group_by_name(listed: Iterable[_SuiteEntry]) -> dict[str, list[DebianPackage]]:
    ordered = sorted((each.entry.package for each in listed), key=lambda each: each.name)
    return {name: list(several) for name, several in groupby(ordered, key=lambda each: each.name)}


def _select_newest(listed: Iterable[_SuiteEntry]) -> list[DebianPackage]:
    """Return the newest version of each name and architecture in each suite; some archives have hundreds."""
    newest = dict[tuple[_Suite, str, str], DebianPackage]()
    for each in listed:
        package = each.entry.package
        key = (each.suite, package.name, package.architecture)
        newest[key] = max(newest.get(key, package), package, key=lambda one: make_version_key(one.version))
    return list({_identify(each): each for each in newest.values()}.values())


def _describe_missing(package: DebianPackage, has_name: bool, namesakes: Collection[DebianPackage]) -> PublishedPackage:
    """Return what is known of a package that the archives do not have; `namesakes` are those of its name.

    They are none if there is no archive of the image's distribution: nobody knows the newest version.
    """
    newest = max((each.version for each in namesakes), key=make_version_key, default="")
    others = frozenset(each.architecture for each in namesakes if each.version == package.version)
    return PublishedPackage(has_name=has_name, newest=newest, others=others)


def _unpack(path: str, packed: bytes) -> IO[bytes]:
    content = io.BytesIO(packed)
    if path.endswith(".xz"):
        return cast("IO[bytes]", UnpackedXz(content))
    return cast("IO[bytes]", gzip.GzipFile(fileobj=content))


def _decode(stored: Mapping[str, Any]) -> PublishedPackage:
    files = {path: frozenset(map(bytes.fromhex, each)) for path, each in stored["files"].items()}
    links = {path: frozenset(each) for path, each in stored["links"].items()}
    return PublishedPackage(
        sources=frozenset(stored["sources"]), files=files, code=frozenset(stored["code"]), links=links
    )
