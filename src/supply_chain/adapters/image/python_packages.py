"""Python packages in an image, compared with what package indexes published under their names.

A step of a build can write any metadata and any record. Scanners believe the metadata, so a false version hides
vulnerabilities; a record would say of any code that a package installed it.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, escape_path
from supply_chain.adapters.image.package_records import InstalledFiles, parse_record, read_installed_files
from supply_chain.concurrency import map_concurrently

Files = Filesystem[FileContent]
_Digests = Mapping[str, Mapping[bytes, set[str]]]
"""Path without links → SHA-256 of each file that was published to be there → directories of the packages."""

METADATA = re.compile(r"(.*/)?[^/]*(?:dist-info/METADATA|egg-info/PKG-INFO|\.egg-info)", re.IGNORECASE)
"""Path of the metadata that syft reads; the group is the directory of packages."""
BELOW = ("", "/METADATA", "/PKG-INFO")
"""What follows the path of a link to metadata, or to their directory."""
SYSTEM = re.compile(r"/(usr/)?lib(32|64|x32)?/")
"""Where a distribution's packages install Python packages."""
CONDA = re.compile(r"(.*/)conda-meta/[^/]+\.json")
"""Path of conda's record of a package; the group is the directory with its packages."""
INTERPRETER = "Python"
"""Name in the metadata of an interpreter, which syft leaves out."""
MODULE = re.compile(r"\.pyw?$", re.IGNORECASE)
MOST_NAMED = 3


def is_metadata(path: str) -> bool:
    """Return whether a file with this path is metadata of a Python package."""
    return METADATA.fullmatch(path) is not None


@dataclass(frozen=True)
class InstalledPackage:
    """A package by its metadata in an image."""

    name: str
    version: str
    metadata: bytes
    """SHA-256 of the metadata file."""
    wheel: bytes = b""
    """SHA-256 of the file WHEEL; empty if there is none."""
    tags: frozenset[str] = frozenset()
    """Interpreter, ABI and platform that the file WHEEL names, such as `py3-none-any`."""

    def is_of(self, published: Mapping[str, bytes]) -> bool:
        """Return whether a published wheel with these files has this package's METADATA and WHEEL."""
        about = {path.partition("/")[2]: digest for path, digest in published.items() if _IN_METADATA.fullmatch(path)}
        return about.get("METADATA") == self.metadata and self.wheel in (b"", about.get("WHEEL"))


_IN_METADATA = re.compile(r"[^/]+\.dist-info/(METADATA|WHEEL)")


@dataclass(frozen=True)
class Published:
    """What package indexes published under a package's name and version."""

    has_name: bool = True
    """Whether an index has the name."""
    has_version: bool = True
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Path below the directory of packages → SHA-256 of each file of the wheel with the package's metadata."""
    sources: frozenset[bytes] = frozenset()
    """SHA-256 of each file in the source distributions; empty if there are none or a wheel has the metadata."""


class PackageIndex(Protocol):
    """Package indexes of Python."""

    def find(self, package: InstalledPackage) -> Published:
        """Return what was published as this package; raise `PackageIndexUnavailable`."""


@dataclass(frozen=True)
class Packages:
    """What is known of the packages in an image."""

    installed: InstalledFiles
    false_claims: tuple[str, ...] = ()
    """`path:1: why` for each metadata file that claims what no package index published."""
    uncompared: int = 0
    """Number of Python packages that were not compared with a package index, because there is none."""


@dataclass(frozen=True)
class _Claim:
    """A package's metadata in an image."""

    path: str
    real: str
    """The path without links."""
    directory: str
    package: InstalledPackage
    listed: Mapping[str, bytes]
    """Path → SHA-256 of the files that the package's own record lists."""


def read_packages(files: Files, keeper: ContentStore, index: PackageIndex | None) -> Packages:
    """Return what is known of the packages in an image, its Python packages compared with what `index` has.

    A Python package of the distribution, or of conda, is not compared. Of one that the index does not know, nothing
    counts as installed by a package. Without an index, the packages' own records count. Raises
    `PackageIndexUnavailable`.
    """
    conda = _find_conda(files)
    system = read_installed_files(files, keeper, lambda path: path.startswith(conda))
    if index is not None:
        return _verify_packages(files, keeper, system, conda, index)
    uncompared = sum(1 for _ in _find_metadata(files, keeper, system, conda))
    return Packages(read_installed_files(files, keeper), uncompared=uncompared)


def _find_conda(files: Files) -> tuple[str, ...]:
    """Return the directories with the packages of conda, which builds them itself.

    Each is a second package database, which the owner has to accept.
    """
    found = {match[1] for path, _ in files.walk() if (match := CONDA.fullmatch(path))}
    return tuple(sorted(found - {"/", "/usr/", "/usr/local/"}))


def _verify_packages(
    files: Files, keeper: ContentStore, system: InstalledFiles, conda: tuple[str, ...], index: PackageIndex
) -> Packages:
    claims, false_claims = list[_Claim](), dict[str, str]()
    for path, real, directory in _find_metadata(files, keeper, system, conda):
        try:
            claim = _read_claim(files, keeper, path, real, directory)
        except ValueError as error:
            false_claims[real] = f"{escape_path(path)}:1: {error}"
            continue
        if claim:
            claims.append(claim)
    published = map_concurrently(index.find, [each.package for each in claims])
    compared = [
        _Comparison(claim, found, tuple(_list_files(files, claim, found)))
        for claim, found in zip(claims, published, strict=True)
    ]
    digests = defaultdict[str, dict[bytes, set[str]]](dict)
    for each in compared:
        for file in each.files:
            if file.published is not None:
                digests[file.path].setdefault(file.published, set()).add(each.claim.directory)
    for each in compared:
        if not _is_brought(each.claim, digests) and (why := each.explain(digests)):
            false_claims[each.claim.real] = why
    both = {
        path: (*system.digests.get(path, ()), *(("sha256", digest) for digest in of)) for path, of in digests.items()
    }
    installed = replace(system, digests={**system.digests, **both})
    return Packages(installed, tuple(sorted(false_claims.values())))


def _is_brought(claim: _Claim, digests: _Digests) -> bool:
    """Return whether a package in another directory brought this one along, with this metadata."""
    return bool(digests.get(claim.real, {}).get(claim.package.metadata, set()) - {claim.directory})


def _find_metadata(
    files: Files, keeper: ContentStore, system: InstalledFiles, conda: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    """Yield path, path without links, and directory of packages of each metadata file that syft reads.

    Those of packages of the distribution, and of conda, are left out.
    """
    for path, node in files.walk():
        for below in BELOW if node.kind is Kind.LINK else BELOW[:1]:
            match = METADATA.fullmatch(path + below)
            found = files.resolve(path + below) if match else None
            if match is None or found is None or found[1].content is None:
                continue
            real, content = found[0], found[1].content
            by_system = real.startswith(conda) or (SYSTEM.match(real) is not None and not system.is_complete)
            if not by_system and not system.lists(real, content, keeper):
                yield path + below, real, (match[1] or "/").rstrip("/")


def _read_claim(files: Files, keeper: ContentStore, path: str, real: str, directory: str) -> _Claim | None:
    """Return what a metadata file claims; None if it names no package. Raises `ValueError` if it is ambiguous."""
    name, version = parse_metadata(_read(files, keeper, real))
    if not (name or version) or name == INTERPRETER:
        return None
    above = posixpath.dirname(path)
    wheel, record = files.resolve(f"{above}/WHEEL"), files.resolve(f"{above}/RECORD")
    package = InstalledPackage(
        name=name,
        version=version,
        metadata=_find(files, real)[1] or b"",
        wheel=(_find(files, wheel[0])[1] or b"") if wheel else b"",
        tags=frozenset(_list_tags(_read(files, keeper, wheel[0]))) if wheel else frozenset(),
    )
    listed = parse_record(_read(files, keeper, record[0]), directory or "/") if record else {}
    return _Claim(path, real, directory, package, listed)


def _read(files: Files, keeper: ContentStore, path: str) -> bytes:
    file = files.resolve(path)
    content = keeper.read(file[1].content) if file and file[1].content else None
    if content is None:
        raise ValueError(f"{escape_path(path)} is too large, or no file, and is not read")
    return content


def _list_tags(content: bytes) -> Iterator[str]:
    for line in content.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "Tag":
            yield value.strip()


def parse_metadata(content: bytes) -> tuple[str, str]:
    """Return the name and version that syft reads from metadata (its parse_wheel_egg_metadata.go); empty if none.

    Raises `ValueError` if the metadata contain one of them several times, where other readers see another one.
    """
    values, key = {"name": list[str](), "version": list[str]()}, ""
    for line in content.decode("utf-8", "replace").split("\n"):
        if not line:
            if key:
                break
            continue
        name, colon, value = line.partition(":")
        if line.startswith(" "):
            value = line  # it continues the field above
        elif name and colon:
            key = name.strip().replace("-", "").lower()
        else:
            continue
        if key in values:
            values[key].append(value.strip())
    if any(len(each) > 1 for each in values.values()):
        raise ValueError("it names the package or its version several times")
    name, version = ("".join(values[each]) for each in ("name", "version"))
    return name, version


@dataclass(frozen=True)
class _File:
    """A file of a package."""

    path: str
    """Without links."""
    published: bytes | None
    """SHA-256 as published; None if a published source does not have the file."""
    found: bytes | None
    """SHA-256 in the image; None if it is not there."""


def _list_files(files: Files, claim: _Claim, published: Published) -> Iterator[_File]:
    """Yield the files of the published wheel; of one that was built from a published source, those that it records."""
    for path, digest in published.files.items():
        real, found = _find(files, f"{claim.directory}/{path}")
        yield _File(real, digest, found)
    for path in claim.listed if published.sources else ():
        real, found = _find(files, path)
        if found in published.sources or MODULE.search(path):
            yield _File(real, found if found in published.sources else None, found)


def _find(files: Files, path: str) -> tuple[str, bytes | None]:
    """Return a file's path without links, and its SHA-256; None if there is no file."""
    file = files.resolve(path)
    return (file[0], file[1].content.sha256) if file and file[1].content else (path, None)


@dataclass(frozen=True)
class _Comparison:
    """An installed package, and what was published as it."""

    claim: _Claim
    published: Published
    files: tuple[_File, ...]

    def explain(self, digests: _Digests) -> str:
        """Return why the package is not what its metadata claim; empty if it is, or if no index knows its name."""
        why = self._explain(digests) if self.published.has_name else ""
        package = self.claim.package
        if not why:
            return ""
        return f"{escape_path(self.claim.path)}:1: it claims to be {package.name} {package.version}, {why}"

    def _explain(self, digests: _Digests) -> str:
        if not self.published.has_version:
            return "a version that the package index does not have"
        if not self.published.files and not self.published.sources:
            return "and no published file has its metadata"
        if not self.published.files and not self.claim.listed:
            return "and it has no RECORD, without which it is not compared with the published source"
        changed = sorted(
            each.path for each in self.files if each.found is not None and each.found not in digests.get(each.path, {})
        )
        if not changed:
            return ""
        named = ", ".join(map(escape_path, changed[:MOST_NAMED]))
        more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
        return f"and what is published differs from {named}{more}"
