"""Packages of npm in an image, compared with what registries published under their names.

A step of a build can write any `package.json`. Scanners believe it, so a false version hides vulnerabilities.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, Node, escape_path
from supply_chain.adapters.image.package_records import InstalledFiles
from supply_chain.concurrency import map_concurrently

Files = Filesystem[FileContent]

METADATA = "package.json"
DIRECTORY = "node_modules"
"""Name of the directories in which Node.js looks for packages."""
CODE = re.compile(r".+\.([cm]?js|jsx|node|wasm)", re.IGNORECASE | re.DOTALL)
"""Name of a file with code."""
SYSTEM = re.compile(r"/(usr/)?(lib(32|64|x32)?|share)/")
"""Where a distribution's packages install packages of npm."""
ENTRY_FIELDS = ("main", "exports", "imports", "type")
"""Fields by which Node.js chooses the code that it loads (its documentation, "Modules: Packages")."""
REMEDY = "install it from a registry of npm_registries or in a base, rename it if it is your own, or review this line"
UNSCANNED = (
    f"code of an npm package whose name and version no scanner reads; let npm write {METADATA}, or review this line"
)
MOST_PACKAGES = 5000
"""Maximum npm packages of an image."""
MOST_NAMED = 3
CONCURRENT = 8
"""Maximum packages that the registries are asked for at a time."""


def describes_package(path: str) -> bool:
    """Return whether the content of a file with this path says what npm package there is."""
    return posixpath.basename(path) == METADATA


@dataclass(frozen=True)
class NpmPublished:
    """What registries published under a package's name and version."""

    has_name: bool = True
    """Whether a registry has the name."""
    has_version: bool = True
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Path in the package → SHA-256 of each file with code, and of each `package.json`."""
    entry: str = ""
    """See `describe_entry`."""


class NpmRegistry(Protocol):
    """Registries of npm."""

    def find(self, name: str, version: str) -> NpmPublished:
        """Return what was published as a package; raise `PackageIndexFailed`."""

    def has_name(self, name: str) -> bool:
        """Return whether a registry has a package of this name; raise `PackageIndexFailed`."""


@dataclass(frozen=True)
class NpmPackages:
    """What is known of the npm packages in an image."""

    false_claims: tuple[str, ...] = ()
    """`path:1: why` for each package that claims what no registry published."""
    uncompared: int = 0
    """Number of packages that were not compared, because there is no registry."""


def is_code(path: str) -> bool:
    """Return whether a file of a package with this path has code."""
    return CODE.fullmatch(posixpath.basename(path)) is not None


def describe_entry(content: bytes) -> str:
    """Return the fields of a `package.json` by which Node.js chooses code, as text; raise `ValueError`."""
    fields = _parse(content)
    return json.dumps({each: fields[each] for each in ENTRY_FIELDS if fields.get(each) is not None}, sort_keys=True)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content.decode("utf-8-sig", "replace"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return parsed if isinstance(parsed, dict) else {}


def parse_package(content: bytes) -> tuple[str, str]:
    """Return the name and version that syft reads from a `package.json` (its parse_package_json.go).

    Raises `ValueError` if it reads none, or if the file contains one of them several times, where other readers see
    another one.
    """
    pairs = list[tuple[str, Any]]()

    def keep(members: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = members  # those of the outermost object come last
        return dict(members)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        is_object = isinstance(
            json.loads(content.decode("utf-8", "replace"), object_pairs_hook=keep, parse_constant=refuse), dict
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    fields = defaultdict[str, list[Any]](list)
    for name, value in pairs if is_object else ():
        fields[name.casefold()].append(value)  # Go matches names of fields without regard to case
    if any(not _SHAPES[name](value) for name, values in fields.items() if name in _SHAPES for value in values):
        raise ValueError("a field has another type than scanners expect")
    if any(len(fields[each]) > 1 for each in ("name", "version")):
        raise ValueError("it names the package or its version several times")
    name, version = (fields[each][0] if fields[each] else "" for each in ("name", "version"))
    if not (name and version):
        raise ValueError("it names no package, or no version")
    return name, version


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_texts(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_text, value)))


def _is_table(value: object) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_text, value.values())))


def _is_person(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_text(each) for name, each in value.items() if name.casefold() in ("name", "email", "url"))
    return _is_text(value)


def _is_people(value: object) -> bool:
    return all(map(_is_person, value)) if isinstance(value, list) else _is_person(value)


_SHAPES: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("name", "version", "homepage", "description"), _is_text),
    "latest": _is_texts,
    **dict.fromkeys(("dependencies", "devdependencies"), _is_table),
    "author": _is_person,
    **dict.fromkeys(("authors", "contributors", "maintainers"), _is_people),
    "repository": lambda value: _is_text(value) or _is_table(value),
    "private": lambda value: value is None or isinstance(value, bool),
}
"""Field of a `package.json`, in small letters → whether syft reads a value; it skips a file with any other one."""


@dataclass(frozen=True)
class _Place:
    """A package in a directory of packages, or a file with code there."""

    path: str
    """Below the directory of packages, which is without links."""
    name: str
    """Name by which Node.js finds it."""
    real: str
    """The path without links."""
    node: Node[FileContent]

    @cached_property
    def code(self) -> Mapping[str, FileContent]:
        """Path without links → content of each file with the name of code, but for those of packages in it."""
        if self.node.content is not None:
            return {self.real: self.node.content}
        listed, waiting = dict[str, FileContent](), [(self.real, self.node)]
        while waiting:
            path, node = waiting.pop()
            if node.kind is Kind.DIRECTORY:
                waiting += [(f"{path}/{name}", each) for name, each in node.children.items() if name != DIRECTORY]
            elif node.content is not None and is_code(path):
                listed[path] = node.content
        return listed


@dataclass(frozen=True)
class _Claim:
    """What a package's metadata claim."""

    place: _Place
    name: str
    version: str
    content: bytes
    """The metadata."""
    is_base: bool
    """Whether the curated base has the metadata so."""


def read_npm_packages(
    files: Files,
    keeper: ContentStore,
    registry: NpmRegistry | None,
    installed: InstalledFiles,
    read_base: Callable[[], Files | None] = lambda: None,
    checkpoint: Callable[[], object] = lambda: None,
) -> NpmPackages:
    """Return what is known of the npm packages in an image, compared with what `registry` has.

    What counts as a package is what Node.js finds by name: what is in a directory `node_modules`. One that another
    package `installed`, or that the curated base has so, is not compared. `read_base`, called if it is needed, returns
    the files of the image's curated base. `checkpoint` is called for each file, and may raise. Raises
    `PackageIndexUnavailable` or `PackageIndexFailed`, and `ValueError` for more packages than are compared.
    """
    places = [each for each in _find_places(files, checkpoint) if not _is_installed(files, keeper, each, installed)]
    if len(places) > MOST_PACKAGES:
        raise ValueError(f"it has more than {MOST_PACKAGES} npm packages")
    base = read_base() if places else None
    places = [each for each in places if not _is_of_base(files, base, each)]
    if registry is None:
        return NpmPackages(uncompared=len(places))
    claims, false_claims = list[_Claim](), list[tuple[_Place, str]]()
    for place in places:
        try:
            claim = _read_claim(files, keeper, base, place)
        except ValueError as error:
            if place.code:
                false_claims.append((place, f"{UNSCANNED} ({error})"))
            continue
        if claim:
            claims.append(claim)
    asked = sorted({(each.name, each.version) for each in claims})
    answers = map_concurrently(lambda package: registry.find(*package), asked, CONCURRENT)
    published = dict(zip(asked, answers, strict=True))
    by_directory = {each.place.real: published[each.name, each.version] for each in claims}
    digests = defaultdict[str, set[bytes]](set)
    for claim in claims:
        for path, digest in published[claim.name, claim.version].files.items():
            digests[f"{claim.place.real}/{path}"].add(digest)
    for claim in claims:
        checkpoint()
        comparison = _Comparison(files, base, claim, published[claim.name, claim.version], digests)
        if why := comparison.explain(registry):
            false_claims.append((claim.place, f"it claims to be {claim.name} {claim.version}, {why}; {REMEDY}"))
    return NpmPackages(
        tuple(
            f"{escape_path(f'{place.path}/{METADATA}' if place.node.kind is Kind.DIRECTORY else place.path)}:1: {why}"
            for place, why in sorted(false_claims, key=lambda each: each[0].path)
            if not _is_vendored(files, place, by_directory)
        )
    )


def _find_places(files: Files, checkpoint: Callable[[], object]) -> Iterator[_Place]:
    """Yield each package and each file with code that Node.js finds by its name, in the first place where it is."""
    seen = set[str]()
    for path, _ in files.walk():
        checkpoint()
        directory = files.resolve(path, mounted=True) if posixpath.basename(path) == DIRECTORY else None
        for name, below in _list_names(files, *directory) if directory else ():
            package = files.resolve(below, mounted=True)
            if package is None or package[0] in seen:
                continue
            real, node = package
            if node.kind is Kind.DIRECTORY or (node.content is not None and is_code(below)):
                seen.add(real)
                yield _Place(below, name, real, node)


def _list_names(files: Files, real: str, directory: Node[FileContent]) -> Iterator[tuple[str, str]]:
    """Yield the name of what is in a directory of packages, and its path. Node.js takes no name with a dot first."""
    for name in sorted(directory.children):
        path = f"{real}/{name}"
        scope = files.resolve(path, mounted=True) if name.startswith("@") else None
        if scope and scope[1].kind is Kind.DIRECTORY:
            yield from ((f"{name}/{each}", f"{path}/{each}") for each in sorted(scope[1].children))
        elif not name.startswith("."):
            yield name, path


def _find(files: Files, path: str) -> FileContent | None:
    file = files.resolve(path, mounted=True)
    return file[1].content if file else None


def _is_installed(files: Files, keeper: ContentStore, place: _Place, installed: InstalledFiles) -> bool:
    """Return whether a distribution's package, or one of Python, brought a package of npm along."""
    if SYSTEM.match(place.real) and not installed.is_complete:
        return True
    metadata = files.resolve(f"{place.real}/{METADATA}")
    parts = {metadata[0]: metadata[1].content} if metadata and metadata[1].content else place.code
    return bool(parts) and all(installed.lists(path, content, keeper) for path, content in parts.items())


def _is_of_base(files: Files, base: Files | None, place: _Place) -> bool:
    """Return whether the curated base has a package so, with its metadata and all of its code."""
    if base is None:
        return False
    metadata, below = (_find(each, f"{place.real}/{METADATA}") for each in (files, base))
    return _same(metadata, below) and all(_same(content, _find(base, path)) for path, content in place.code.items())


def _same(content: FileContent | None, other: FileContent | None) -> bool:
    return (content.sha256 if content else None) == (other.sha256 if other else None)


def _read_claim(files: Files, keeper: ContentStore, base: Files | None, place: _Place) -> _Claim | None:
    """Return what a package claims to be; None if it says that it is no published one.

    Raises `ValueError` if scanners read nothing there.
    """
    path = f"{place.real}/{METADATA}"
    file = _find(files, path)
    if file is None:
        raise ValueError(f"there is no {METADATA}")
    content = keeper.read(file)
    if content is None:
        raise ValueError("it is too large, and is not read")
    name, version = parse_package(content)
    if f"/{DIRECTORY}/" not in place.real and _parse(content).get("private") is True:
        return None  # a link to a part of the application
    below = _find(base, path) if base else None
    return _Claim(place, name, version, content, is_base=below is not None and _same(file, below))


def _is_vendored(files: Files, place: _Place, published: Mapping[str, NpmPublished]) -> bool:
    """Return whether a package around another one brings that along, with all of its code.

    `published` is what was published as the package in each directory.
    """
    metadata = _find(files, f"{place.real}/{METADATA}")
    parts = {**place.code, **({f"{place.real}/{METADATA}": metadata} if metadata else {})}
    above = posixpath.dirname(place.real)
    while above != "/":
        listed = published[above].files if above in published else {}
        if all(listed.get(path[len(above) + 1 :]) == content.sha256 for path, content in parts.items()):
            return True
        above = posixpath.dirname(above)
    return False


@dataclass(frozen=True)
class _Comparison:
    """An installed package, and what was published as it."""

    files: Files
    base: Files | None
    claim: _Claim
    published: NpmPublished
    digests: Mapping[str, set[bytes]]
    """Path without links in its directory → SHA-256 of the files that were published to be there."""

    def explain(self, registry: NpmRegistry) -> str:
        """Return why the package is not what its metadata claim; empty if it is, or if no registry knows its name."""
        claim = self.claim
        if not self.published.has_name:
            is_other = claim.name != claim.place.name and registry.has_name(claim.place.name)
            return f"a name that no registry has, in the place of {claim.place.name}" if is_other else ""
        if claim.is_base:
            return self._explain_code()
        if not self.published.has_version:
            return "a version that the registry does not have"
        return self._explain_code() or self._explain_entry()

    def _explain_code(self) -> str:
        paths = {f"{self.claim.place.real}/{each}" for each in self.published.files if is_code(each)}
        if self.claim.is_base and self.base is not None:
            paths |= {path for path in self.claim.place.code if _find(self.base, path) is not None}
        code = {path: installed for path in paths if (installed := _find(self.files, path)) is not None}
        changed = sorted(path for path, installed in code.items() if not self._is_known(path, installed))
        if changed:
            named = ", ".join(map(escape_path, changed[:MOST_NAMED]))
            more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
            return f"and what is published differs from {named}{more}"
        has_other = not self.claim.is_base and not code and bool(self.claim.place.code)
        return "and none of its code is there" if has_other else ""

    def _is_known(self, path: str, installed: FileContent) -> bool:
        if installed.sha256 in self.digests.get(path, ()):
            return True
        return self.claim.is_base and self.base is not None and _same(installed, _find(self.base, path))

    def _explain_entry(self) -> str:
        """Return whether the metadata let Node.js begin with other code than the published ones do."""
        entry = describe_entry(self.claim.content)
        return "" if entry == self.published.entry else f"and {', '.join(ENTRY_FIELDS)} differ from what is published"
