"""Python packages in an image, compared with what package indexes published under their names.

A step of a build can write any metadata and any record. Scanners believe the metadata, so a false version hides
vulnerabilities; a record would say of any code that a package installed it.
"""

from __future__ import annotations

import io
import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, escape_path
from supply_chain.adapters.image.package_records import (
    NOTHING_COMPARED,
    Digest,
    InstalledFiles,
    SystemFiles,
    read_installed_files,
)
from supply_chain.adapters.image.wheel import INVALID_WHEEL, read_wheel
from supply_chain.concurrency import iterate_concurrently

Files = Filesystem[FileContent]
_Digests = Mapping[str, Container[bytes]]
"""Path without links → SHA-256 of the files that were published to be there."""
_Base = Mapping[str, tuple[Digest, ...]]
"""Path without links → digests of the curated base's files."""

METADATA = re.compile(r"(.*/)?[^/]*(?:(?:dist|egg)-info/(?-i:METADATA|PKG-INFO)|\.egg-info)", re.IGNORECASE | re.DOTALL)
"""Path of the metadata that syft reads; the group is the directory of packages."""
SCANNED = re.compile(r".*(?:(?:dist-info|DIST-INFO)/METADATA|(?:egg-info|EGG-INFO)/PKG-INFO|\.egg-info)", re.DOTALL)
"""Those of these paths that syft reads (its cataloger.go of Python). Python reads the others as well."""
BELOW = ("", "/METADATA", "/PKG-INFO")
"""What follows the path of a link to metadata, or to their directory."""
SYSTEM = re.compile(r"/(usr/)?lib(32|64|x32)?/")
"""Where a distribution's packages install Python packages."""
CONDA = re.compile(r"(.*/)conda-meta/[^/]+\.json", re.DOTALL)
"""Path of conda's record of a package; the group is the directory with its packages."""
REMEDY = "install it from an index of python_indexes or in a base, rename it if it is your own, or review this line"
UNSCANNED = (
    "metadata of a Python package that no scanner reads under this name; "
    "let pip write it, as NAME-VERSION.dist-info/METADATA, or review this line"
)
MOST_PACKAGES = 2000
"""Maximum Python packages of an image."""
MOST_PUBLISHED = 1_000_000
"""Maximum files that package indexes published as these: a large source distribution may be named many times."""
MOST_PLACES = 1_000_000
"""Maximum places at which builds of their sources may put files: each directory of a source may be the first."""
INTERPRETER = "Python"
"""Name in the metadata of an interpreter, which syft leaves out."""
CODE = re.compile(r"\.(pyw?|pth|so)$", re.IGNORECASE)
"""End of the path of a file with code. Others may differ, such as a list of authorities."""
WHEEL = re.compile(r"/usr/share/python-wheels/[^/]+\.whl")
MOST_NAMED = 3


def is_python_metadata(path: str) -> bool:
    """Return whether the content of a file with this path says what Python packages there are."""
    return bool(METADATA.fullmatch(path) or CONDA.fullmatch(path) or WHEEL.fullmatch(path))


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
    sources: Mapping[str, bytes] = field(default_factory=dict)
    """Path → SHA-256 of each file in the source distributions; empty if there are none or a wheel has the metadata."""


class PackageIndex(Protocol):
    """Package indexes of Python."""

    def find(self, package: InstalledPackage) -> Published:
        """Return what was published as this package; raise `PackageIndexFailed`."""


@dataclass(frozen=True)
class PythonPackages:
    """What is known of the Python packages in an image."""

    installed: InstalledFiles
    """What all packages installed, those of the distribution among them."""
    false_claims: tuple[str, ...] = ()
    """`path:1: why` for each metadata file that claims what no package index published."""
    uncompared: int = 0
    """Number of packages that were not compared with a package index, because there is none."""


@dataclass(frozen=True)
class _Metadata:
    """A file with the metadata of a package."""

    path: str
    real: str
    """The path without links."""
    directory: str
    """Where the package is installed."""
    content: FileContent
    is_base: bool
    """Whether it is unchanged from the base. It was compared when the base was built; its code may have changed."""


@dataclass(frozen=True)
class _Claim:
    """A package's metadata in an image."""

    metadata: _Metadata
    package: InstalledPackage


def read_python_packages(
    files: Files,
    keeper: ContentStore,
    index: PackageIndex | None,
    checkpoint: Callable[[], object] = lambda: None,
    system: SystemFiles = NOTHING_COMPARED,
) -> PythonPackages:
    """Return what is known of the Python packages in an image, compared with what `index` has.

    A Python package of the distribution, or one that conda recorded, is not compared. Of one that the index does not
    know, nothing counts as installed by a package. Of the base's, what is published or the base's own counts. Without
    an index, the packages' own records count. `checkpoint` is called for each file, and may raise. `system` is as for
    `read_installed_files`. Raises `PackageIndexUnavailable` or `PackageIndexFailed`, and `ValueError` for more packages
    than are compared.
    """
    conda = _read_conda(files, keeper)
    others = read_installed_files(files, keeper, conda.__contains__, system)
    base = system.base or {}
    metadata = list(islice(_find_metadata(files, keeper, others, base, conda, checkpoint), MOST_PACKAGES + 1))
    if len(metadata) > MOST_PACKAGES:
        raise ValueError(f"it has more than {MOST_PACKAGES} Python packages")
    unscanned = [each for each in metadata if not (each.is_base or SCANNED.fullmatch(each.path))]
    scanned = [each for each in metadata if each not in unscanned]
    if index is not None:
        packages = _compare_packages(files, keeper, others, base, scanned, index, checkpoint)
    else:
        packages = PythonPackages(read_installed_files(files, keeper, system=system), uncompared=len(metadata))
    false_claims = (f"{escape_path(each.path)}:1: {UNSCANNED}" for each in unscanned)
    return replace(packages, false_claims=(*packages.false_claims, *sorted(false_claims)))


def _read_conda(files: Files, keeper: ContentStore) -> frozenset[str]:
    """Return the paths that conda recorded; it builds packages itself.

    Its database is a second one, which the owner has to accept, unless it is in the system's own place.
    """
    recorded = set[str]()
    for path, node in files.walk():
        match = CONDA.fullmatch(path)
        if match is None or node.content is None or match[1] in ("/", "/usr/", "/usr/local/"):
            continue
        try:
            listed = json.loads(keeper.read(node.content) or b"{}").get("files") or ()
            paths = (posixpath.normpath(f"{match[1]}{each}") for each in listed)
            recorded.update(path for path in paths if path.startswith(match[1]))
        except (ValueError, AttributeError, TypeError, RecursionError):
            continue  # it lists nothing
    return frozenset(recorded)


def _compare_packages(
    files: Files,
    keeper: ContentStore,
    system: InstalledFiles,
    base: _Base,
    metadata: Iterable[_Metadata],
    index: PackageIndex,
    checkpoint: Callable[[], object],
) -> PythonPackages:
    claims, false_claims = list[_Claim](), dict[str, str]()
    for each in metadata:
        try:
            claim = _read_claim(files, keeper, each)
        except ValueError as error:
            if not each.is_base:
                false_claims[each.real] = f"{escape_path(each.path)}:1: {error}"
            continue
        if claim:
            claims.append(claim)
    published = _find_published(files, keeper, system, {claim.package for claim in claims}, index)
    compared, number = list[_Comparison](), 0
    for claim in claims:
        places = _list_files(files, claim, published[claim.package], checkpoint)
        comparison = _Comparison(claim, published[claim.package], tuple(islice(places, MOST_PLACES + 1 - number)))
        compared.append(comparison)
        if (number := number + len(comparison.files)) > MOST_PLACES:
            raise ValueError(f"files of its Python packages may be at more than {MOST_PLACES} places")
    digests, shared = defaultdict[str, set[bytes]](set), defaultdict[str, set[bytes]](set)
    for comparison in compared:
        for file in comparison.files:
            digests[file.path].add(file.published)
            if not file.is_nested:
                shared[file.path].add(file.published)
    for comparison in compared:
        # A source may contain an older version of another package, which nobody installs from there.
        others = shared if comparison.published.files else digests
        if (why := comparison.explain(others, base)) and not _is_vendored(comparison.claim, compared):
            false_claims[comparison.claim.metadata.real] = why
    merged = {
        path: (*system.digests.get(path, ()), *(("sha256", digest) for digest in listed))
        for path, listed in digests.items()
    }
    installed = replace(system, digests={**system.digests, **merged})
    return PythonPackages(installed, tuple(sorted(false_claims.values())))


def _find_published(
    files: Files,
    keeper: ContentStore,
    system: InstalledFiles,
    packages: Iterable[InstalledPackage],
    index: PackageIndex,
) -> dict[InstalledPackage, Published]:
    """Return what was published as each package, by the distribution in the image or by the index."""
    wheels = list(_read_wheels(files, keeper, system))
    own = {each: wheel for wheel in wheels for each in packages if each.is_of(wheel)}
    others = [each for each in packages if each not in own]
    of_index, number = dict[InstalledPackage, Published](), 0
    for package, published in zip(others, iterate_concurrently(index.find, others), strict=True):
        of_index[package] = published
        number += len(published.files) + len(published.sources)
        if number > MOST_PUBLISHED:
            raise ValueError(f"what is published as its Python packages has more than {MOST_PUBLISHED} files")
    return {**of_index, **{package: Published(files=wheel) for package, wheel in own.items()}}


def _read_wheels(files: Files, keeper: ContentStore, system: InstalledFiles) -> Iterator[Mapping[str, bytes]]:
    """Yield the files of each wheel of the distribution, such as Debian's pip, which `venv` installs from it."""
    for path, node in files.walk():
        if WHEEL.fullmatch(path) and node.content is not None and system.lists(path, node.content, keeper):
            with suppress(*INVALID_WHEEL):
                yield read_wheel(io.BytesIO(keeper.read(node.content) or b""))


def _is_vendored(claim: _Claim, compared: Iterable[_Comparison]) -> bool:
    """Return whether the published wheel of another package brings a claim's metadata along, at this place."""
    real = claim.metadata.real
    others = [each for each in compared if each.published.files and each.claim.metadata.real != real]
    above = [posixpath.dirname(posixpath.dirname(each.claim.metadata.real)).rstrip("/") for each in others]
    return any(
        real.startswith(f"{place}/") and each.published.files.get(real[len(place) + 1 :]) == claim.package.metadata
        for each, place in zip(others, above, strict=True)
    )


def _find_metadata(
    files: Files,
    keeper: ContentStore,
    system: InstalledFiles,
    base: _Base,
    conda: Container[str],
    checkpoint: Callable[[], object],
) -> Iterator[_Metadata]:
    """Yield each metadata file that syft or Python reads, but for those of the distribution's packages and conda's."""
    for path, node in files.walk():
        checkpoint()
        for below in BELOW if node.kind is Kind.LINK else BELOW[:1]:
            match = METADATA.fullmatch(path + below)
            file = files.resolve(path + below) if match else None
            if match is None or file is None or file[1].content is None or _is_unused(files, path + below):
                continue
            real, content = file[0], file[1].content
            by_system = real in conda or (SYSTEM.match(real) is not None and not system.is_complete)
            is_base = ("sha256", content.sha256) in base.get(real, ())
            if not by_system and (is_base or not system.lists(real, content, keeper)):
                yield _Metadata(path + below, real, (match[1] or "/").rstrip("/"), content, is_base)


def _is_unused(files: Files, path: str) -> bool:
    """Return whether neither syft nor Python reads metadata: Python prefers METADATA next to it."""
    above, name = posixpath.split(path)
    other = f"{above}/METADATA"
    return name == "PKG-INFO" and bool(
        SCANNED.fullmatch(other) and not SCANNED.fullmatch(path) and files.resolve(other)
    )


def _read_claim(files: Files, keeper: ContentStore, metadata: _Metadata) -> _Claim | None:
    """Return what a metadata file claims; None if it names no package. Raises `ValueError` if it is ambiguous."""
    name, version = parse_metadata(_read(keeper, metadata.content, metadata.path))
    if not (name or version) or name == INTERPRETER:
        return None
    above = posixpath.dirname(metadata.path)
    wheel = _find(files, f"{above}/WHEEL")[1]
    package = InstalledPackage(
        name=name,
        version=version,
        metadata=metadata.content.sha256,
        wheel=wheel.sha256 if wheel else b"",
        tags=frozenset(_list_tags(_read(keeper, wheel, f"{above}/WHEEL"))) if wheel else frozenset(),
    )
    return _Claim(metadata, package)


def _read(keeper: ContentStore, file: FileContent, path: str) -> bytes:
    content = keeper.read(file)
    if content is None:
        raise ValueError(f"{escape_path(path)} is too large, and is not read")
    return content


def _find(files: Files, path: str, *, mounted: bool = False) -> tuple[str, FileContent | None]:
    """Return a file's path without links, and its content; None if there is no file. `mounted` is as for `resolve`."""
    file = files.resolve(path, mounted=mounted)
    return (file[0], file[1].content) if file and file[1].content else (path, None)


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
        if not line.removesuffix("\r"):
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
        raise ValueError("it names the package or its version several times, or over several lines; let pip write it")
    name, version = ("".join(values[each]) for each in ("name", "version"))
    return name, version


@dataclass(frozen=True)
class _File:
    """A published file, where it would be in the image."""

    path: str
    """Without links."""
    is_code: bool
    """Whether its published name, by which Python loads it, is that of code."""
    published: bytes
    """SHA-256 as published."""
    installed: bytes | None
    """SHA-256 in the image; None if it is not there."""
    is_nested: bool = False
    """Whether it is deep in a source, where that may have copies of other packages."""


def _list_files(files: Files, claim: _Claim, published: Published, checkpoint: Callable[[], object]) -> Iterator[_File]:
    """Yield the files of the published wheel, or those of the published source at each place of a build's choice."""
    wheel = ((path, digest, False) for path, digest in published.files.items())
    for path, digest, is_nested in wheel if published.files else _list_places(published.sources):
        checkpoint()
        real, content = _find(files, f"{claim.metadata.directory}/{path}", mounted=True)
        yield _File(real, CODE.search(path) is not None, digest, content.sha256 if content else None, is_nested)


def _list_places(sources: Mapping[str, bytes]) -> Iterator[tuple[str, bytes, bool]]:
    """Yield path below the directory of packages, and SHA-256, of each file of a source, and whether it is nested.

    A build takes packages from the source's own directory, or from one that is in no package, such as `src`.
    """
    packages = {posixpath.dirname(path) for path in sources if posixpath.basename(path) == "__init__.py"}
    roots = {"", "src", "lib", "python", *map(posixpath.dirname, packages)} - packages
    for root in roots:
        begin = f"{root}/" if root else ""
        for path, digest in sources.items():
            if path.startswith(begin):
                yield path[len(begin) :], digest, root not in ("", "src")


@dataclass(frozen=True)
class _Comparison:
    """An installed package, and what was published as it."""

    claim: _Claim
    published: Published
    files: tuple[_File, ...]

    def explain(self, digests: _Digests, base: _Base) -> str:
        """Return why the package is not what its metadata claim; empty if it is, or if no index knows its name."""
        is_base, package = self.claim.metadata.is_base, self.claim.package
        why = ("" if is_base else self._explain_files()) or self._explain_code(digests, base if is_base else {})
        if not (why and self.published.has_name):
            return ""
        path = escape_path(self.claim.metadata.path)
        return f"{path}:1: it claims to be {package.name} {package.version}, {why}; {REMEDY}"

    def _explain_files(self) -> str:
        if not self.published.has_version:
            return "a version that the package index does not have"
        if not self.files:
            return "and no published file has its metadata"
        code = [each for each in self.files if each.is_code]
        is_missing = bool(code) and all(each.installed is None for each in code)
        return "but none of its code is in the image" if is_missing else ""

    def _explain_code(self, digests: _Digests, base: _Base) -> str:
        """Return which code is neither published nor of the base with this package; empty if none."""
        code = {each.path: each.installed for each in self.files if each.is_code and each.installed}
        changed = sorted(
            path
            for path, installed in code.items()
            if installed not in digests.get(path, ()) and ("sha256", installed) not in base.get(path, ())
        )
        if not changed:
            return ""
        named = ", ".join(map(escape_path, changed[:MOST_NAMED]))
        more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
        return f"and what is published differs from {named}{more}"
