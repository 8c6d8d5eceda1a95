"""Packages of npm in an image, compared with what registries published under their names.

A step of a build can write any `package.json`. Scanners believe it, so a false version hides vulnerabilities. A package
is what it claims to be if everything in it that Node.js could load was published so.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, Node, escape_path
from supply_chain.adapters.image.package_records import InstalledFiles
from supply_chain.concurrency import map_concurrently

Files = Filesystem[FileContent]

METADATA = "package.json"
DIRECTORIES = frozenset({"node_modules", ".node_modules", ".node_libraries"})
"""Names of the directories in which Node.js looks for packages (its documentation, "Modules: CommonJS modules")."""
OTHER_DIRECTORY = re.compile(r"/(usr/(local/)?)?lib/node|/usr/share/nodejs")
"""Path of other such directories, which Node.js has by itself, or from Debian."""
CODE = re.compile(r".+\.([cm]?js|jsx|node|wasm)", re.IGNORECASE | re.DOTALL)
"""Name of a file with code."""
SYSTEM = re.compile(r"/(usr/)?lib(32|64|x32)?/")
"""Where a distribution's packages install packages of npm."""
NATIVE, NATIVE_BUILD = "binding.gyp", "build/"
"""File of a package that is compiled when it is installed, and where in it the results are."""
ENTRY_FIELDS = ("main", "exports", "imports", "type")
"""Fields by which Node.js chooses the code that it loads (its documentation, "Modules: Packages")."""
REMEDY = "install it from a registry of npm_registries or in a base, rename it if it is your own, or review this line"
UNSCANNED = (
    f"what Node.js loads as a package, and no scanner reads its name and version; let npm write {METADATA}, or review "
    "this line"
)
MOST_PACKAGES, MOST_NAMES = 5000, 50_000
"""Maximum npm packages of an image, and maximum names by which Node.js finds them."""
MOST_NAMED, LONGEST_NAMED = 3, 200
"""Maximum files that a reason names, and maximum characters of a name and version in it."""
CONCURRENT = 8
"""Maximum packages that the registries are asked for at a time."""


def is_npm_metadata(path: str) -> bool:
    """Return whether the content of a file with this path says what npm package there is."""
    return posixpath.basename(path) == METADATA


@dataclass(frozen=True)
class NpmPublished:
    """What registries published under a package's name and version."""

    has_name: bool = True
    """Whether a registry has the name."""
    has_version: bool = True
    files: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    """Path in the package → SHA-256 of each file for which `is_compared` is true, and of what installers make of it."""
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


def is_compared(path: str) -> bool:
    """Return whether a file of a package is compared: code, metadata, and all that is in packages in it."""
    return _is_loaded(path) or path == NATIVE or any(each in DIRECTORIES for each in path.split("/")[:-1])


def _is_loaded(path: str) -> bool:
    """Return whether Node.js can load a file of a package by this path, or chooses code by it."""
    name = posixpath.basename(path)
    return CODE.fullmatch(name) is not None or name == METADATA or "." not in name


def describe_entry(content: bytes) -> str:
    """Return the fields of a `package.json` by which Node.js chooses code, as text; raise `ValueError`."""
    try:
        fields = json.loads(content.decode("utf-8-sig", "replace"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    chosen = {each: fields.get(each) for each in ENTRY_FIELDS} if isinstance(fields, dict) else {}
    return json.dumps({each: value for each, value in chosen.items() if value is not None}, sort_keys=True)


class _Object(dict[str, Any]):
    """A JSON object, with all of its members: a name may be there several times."""

    def __init__(self, members: Sequence[tuple[str, Any]]) -> None:
        super().__init__(members)
        self.members = members


def parse_package(content: bytes) -> tuple[str, str]:
    """Return the name and version that syft reads from a `package.json` (its parse_package_json.go).

    Raises `ValueError` if it reads none, or if the file contains one of them several times, where other readers see
    another one.
    """
    try:
        parsed = json.loads(
            content.decode("utf-8", "replace"),
            object_pairs_hook=_Object,
            parse_constant=_refuse,
            parse_float=_parse_number,
            parse_int=_parse_number,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    fields = defaultdict[str, list[Any]](list)
    for name, value in parsed.members if isinstance(parsed, _Object) else ():
        fields[name.casefold()].append(value)  # Go matches names of fields without regard to case
    if any(not _SHAPES[name](value) for name, values in fields.items() if name in _SHAPES for value in values):
        raise ValueError("a field has another type than scanners expect")
    if any(len(fields[each]) > 1 for each in ("name", "version")):
        raise ValueError("it names the package or its version several times")
    name, version = (fields[each][0] if fields[each] else "" for each in ("name", "version"))
    if not (name and version):
        raise ValueError("it names no package, or no version")
    return name, version


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _parse_number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("a number in it is too large for scanners")
    return number


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_texts(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_text, value)))


def _is_table(value: object) -> bool:
    return value is None or (isinstance(value, _Object) and all(_is_text(each) for _, each in value.members))


def _is_person(value: object) -> bool:
    if isinstance(value, _Object):
        return all(_is_text(each) for name, each in value.members if name.casefold() in ("name", "email", "url"))
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
    """A package, or a file, in a directory of packages."""

    real: str
    """The path without links."""
    node: Node[FileContent]
    names: tuple[str, ...]
    """Names by which Node.js finds it."""

    @property
    def path(self) -> str:
        """Path of the metadata, or of the file."""
        return f"{self.real}/{METADATA}" if self.node.kind is Kind.DIRECTORY else self.real

    @property
    def metadata(self) -> FileContent | None:
        """The metadata; None if there are none, or if they are behind a link, which scanners may not follow."""
        return self.node.children[METADATA].content if METADATA in self.node.children else None

    def list_entries(self, checkpoint: Callable[[], object]) -> Iterator[tuple[str, Node[FileContent]]]:
        """Yield the path in the package of each file and link, and the node, but for those of packages in it.

        The path is empty for a file in place of a package. `checkpoint` is called for each, and may raise.
        """
        if self.node.kind is not Kind.DIRECTORY:
            yield "", self.node
        waiting = [("", self.node)]
        while waiting:
            above, directory = waiting.pop()
            for name, node in directory.children.items():
                checkpoint()
                if name in DIRECTORIES:
                    continue
                if node.kind is Kind.DIRECTORY:
                    waiting.append((f"{above}{name}/", node))
                else:
                    yield f"{above}{name}", node


@dataclass(frozen=True)
class _Claim:
    """What a package's metadata claim."""

    place: _Place
    name: str
    version: str
    content: bytes
    """The metadata."""

    def __str__(self) -> str:
        """Return name and version as printable text."""
        return escape_path(f"{self.name} {self.version}".encode("utf-8", "backslashreplace").decode())[:LONGEST_NAMED]


def read_npm_packages(
    files: Files,
    keeper: ContentStore,
    registry: NpmRegistry | None,
    installed: InstalledFiles,
    read_base: Callable[[], Files | None] = lambda: None,
    checkpoint: Callable[[], object] = lambda: None,
) -> NpmPackages:
    """Return the npm packages in an image, compared with what `registry` has.

    What counts as a package is what Node.js finds by name: what is in a directory `node_modules`. One that another
    package `installed`, or that is unchanged from the curated base, is not compared. `read_base`, called if it is
    needed, returns the files of the image's curated base. `checkpoint` is called for each file and each request, also
    in threads, and may raise. Raises `PackageIndexUnavailable` or `PackageIndexFailed`, and `ValueError` for more
    packages than are compared.
    """
    named = _find_places(files, checkpoint)
    base = read_base() if named else None
    reader = _Reader(files, keeper, installed, base, checkpoint)
    places = [each for each in named if not (reader.is_installed(each) or reader.is_of_base(each))]
    if registry is None:
        return NpmPackages(uncompared=len(places))
    claims, reasons = list[_Claim](), list[tuple[_Place, str]]()
    for place in places:
        try:
            claims.append(reader.read_claim(place))
        except ValueError as error:
            if any(place.list_entries(checkpoint)):
                reasons.append((place, f"{UNSCANNED} ({error})"))

    def find(package: tuple[str, str]) -> NpmPublished:
        checkpoint()
        return registry.find(*package)

    identities = sorted({(each.name, each.version) for each in claims})
    published = dict(zip(identities, map_concurrently(find, identities, CONCURRENT), strict=True))
    for claim in claims:
        if why := reader.explain(claim, published[claim.name, claim.version], registry):
            reasons.append((claim.place, f"it claims to be {claim}, {why}; {REMEDY}"))
    around = {each.place.real: published[each.name, each.version] for each in claims}
    return NpmPackages(
        tuple(
            f"{escape_path(place.path)}:1: {why}"
            for place, why in sorted(reasons, key=lambda each: each[0].path)
            if not reader.is_vendored(place, around)
        )
    )


def _find_places(files: Files, checkpoint: Callable[[], object]) -> list[_Place]:
    """Return each package, or file, that Node.js finds by its name; raise `ValueError` if there are too many."""
    names, nodes = defaultdict[str, list[str]](list), dict[str, Node[FileContent]]()
    for number, (name, path) in enumerate(_list_paths(files, checkpoint), start=1):
        checkpoint()
        if (package := files.resolve(path, mounted=True)) is not None:
            names[package[0]].append(name)
            nodes[package[0]] = package[1]
        if len(nodes) > MOST_PACKAGES or number > MOST_NAMES:
            raise ValueError(f"it has more than {MOST_PACKAGES} npm packages")
    return [_Place(real, node, tuple(names[real])) for real, node in sorted(nodes.items())]


def _list_paths(files: Files, checkpoint: Callable[[], object]) -> Iterator[tuple[str, str]]:
    """Yield name and path of what Node.js finds in directories of packages. It takes no name that begins with a dot."""
    visited = set[tuple[str, str]]()
    for path, _ in files.walk():
        checkpoint()
        if posixpath.basename(path) not in DIRECTORIES and not OTHER_DIRECTORY.fullmatch(path):
            continue
        for name, below in _list_directory(files, path, visited):
            if name.startswith("@") and _is_directory(files, below):
                yield from ((f"{name}/{each}", under) for each, under in _list_directory(files, below, visited, name))
            elif not name.startswith("."):
                yield name, below


def _list_directory(files: Files, path: str, visited: set[tuple[str, str]], scope: str = "") -> list[tuple[str, str]]:
    """Return name and path of what is in a directory of packages, or of those of a scope.

    `visited` are the directories that were read: the path without links, and the scope. They have nothing more.
    """
    directory = files.resolve(path, mounted=True)
    if directory is None or (directory[0], scope) in visited:
        return []
    visited.add((directory[0], scope))
    return [(name, f"{directory[0]}/{name}") for name in sorted(directory[1].children)]


def _is_directory(files: Files, path: str) -> bool:
    resolved = files.resolve(path, mounted=True)
    return resolved is not None and resolved[1].kind is Kind.DIRECTORY


@dataclass(frozen=True)
class _Reader:
    """Reads the packages of an image on a curated base, if there is one."""

    files: Files
    keeper: ContentStore
    installed: InstalledFiles
    base: Files | None
    checkpoint: Callable[[], object]

    def is_installed(self, place: _Place) -> bool:
        """Return whether a distribution's package, or one of Python, brought a package of npm along."""
        if SYSTEM.match(place.real) and not self.installed.is_complete:
            return True
        return all(
            self.installed.lists(real, content, self.keeper)
            for path, node in place.list_entries(self.checkpoint)
            if _can_load(path, node)
            for real, content in self._follow(_join(place, path), node)
        )

    def is_of_base(self, place: _Place) -> bool:
        """Return whether all files that Node.js could load from a package are unchanged from the curated base."""
        return self.base is not None and all(
            self._is_same_in_base(place, path, node)
            for path, node in place.list_entries(self.checkpoint)
            if _can_load(path, node)
        )

    def _is_same_in_base(self, place: _Place, path: str, node: Node[FileContent]) -> bool:
        """Return whether a file, or a link and everything behind it, is unchanged from the curated base."""
        real, base = _join(place, path), self.base
        below = base.resolve(real, follow=False) if base else None
        if base is None or below is None or (node.kind, node.target) != (below[1].kind, below[1].target):
            return False
        return all(
            (file := base.resolve(target)) and file[1].content and file[1].content.sha256 == content.sha256
            for target, content in self._follow(real, node)
        )

    def _follow(self, path: str, node: Node[FileContent]) -> Iterator[tuple[str, FileContent]]:
        """Yield path without links and content of a file, or of each that Node.js can load behind a link."""
        if node.content is not None:
            yield path, node.content
        links, visited = [path] if node.kind is Kind.LINK else [], set[str]()
        while links:
            target = self.files.resolve(links.pop(), mounted=True)
            if target is None or target[0] in visited:
                continue
            visited.add(target[0])
            place = _Place(*target, names=())
            for below, each in place.list_entries(self.checkpoint):
                if each.kind is Kind.LINK:
                    links.append(_join(place, below))
                elif each.content is not None and _can_load(below, each):
                    yield _join(place, below), each.content

    def read_claim(self, place: _Place) -> _Claim:
        """Return what a package claims to be; raise `ValueError` if scanners read nothing there."""
        if place.metadata is None:
            raise ValueError(f"there is no {METADATA}, or it is behind a link")
        content = self.keeper.read(place.metadata)
        if content is None:
            raise ValueError("it is too large, and is not read")
        return _Claim(place, *parse_package(content), content)

    def explain(self, claim: _Claim, published: NpmPublished, registry: NpmRegistry) -> str:
        """Return why a package is not what it claims to be; empty if it is, or if no registry knows its name."""
        is_base = self._is_same_in_base(claim.place, METADATA, claim.place.node.children[METADATA])
        if not published.has_name:
            other = next((each for each in claim.place.names if self._is_other(each, claim, registry)), "")
            return f"a name that no registry has, in the place of {other}" if other else ""
        if not (published.has_version or is_base):
            return "a version that the registry does not have"
        changed, added = list[str](), list[str]()
        for path, node in claim.place.list_entries(self.checkpoint):
            if not (is_base and self._is_same_in_base(claim.place, path, node)):
                if path in published.files:
                    changed += [path] if _is_changed(path, node, published) else []
                elif _is_added(path, node, published):
                    added.append(path)
        if changed or added:
            what = "what is published differs from" if changed else "no published package has"
            return f"and {what} {_name_some(claim.place, changed or added)}"
        if is_base or describe_entry(claim.content) == published.entry:
            return ""
        return f"and {', '.join(ENTRY_FIELDS)} differ from what is published"

    def _is_other(self, name: str, claim: _Claim, registry: NpmRegistry) -> bool:
        """Return whether a name is that of a package, and not the claimed one."""
        self.checkpoint()
        return name != claim.name and registry.has_name(name)

    def is_vendored(self, place: _Place, around: Mapping[str, NpmPublished]) -> bool:
        """Return whether a package around another one brings that along, with everything that is in it.

        `around` is what was published as the package in each directory.
        """
        above = posixpath.dirname(place.real)
        while above != "/":
            if above in around and all(
                node.content is not None
                and node.content.sha256 in around[above].files.get(_join(place, path)[len(above) + 1 :], ())
                for path, node in place.list_entries(self.checkpoint)
            ):
                return True
            above = posixpath.dirname(above)
        return False


def _join(place: _Place, path: str) -> str:
    return f"{place.real}/{path}" if path else place.real


def _can_load(path: str, node: Node[FileContent]) -> bool:
    """Return whether Node.js can load a file or link of a package as the package's code.

    It cannot load a program in this way. The path of a file in place of a package is empty.
    """
    if node.kind is Kind.LINK or not path:
        return True
    return _is_loaded(path) and not (node.content and node.content.machine)


def _is_changed(path: str, node: Node[FileContent], published: NpmPublished) -> bool:
    """Return whether a file is another one than the published one of its path.

    Of the package's own metadata, only some fields count. Installers put a program in the place of a script.
    """
    if node.content is None:
        return True
    is_program = "." not in posixpath.basename(path) and bool(node.content.machine)
    return path != METADATA and not is_program and node.content.sha256 not in published.files[path]


def _is_added(path: str, node: Node[FileContent], published: NpmPublished) -> bool:
    """Return whether a file that is not published could be loaded in place of what is.

    Not what was compiled when the package was installed. Of code without an ending, what has the name of published code
    up to its ending: Node.js completes a name only if there is no such file.
    """
    if NATIVE in published.files and path.startswith(NATIVE_BUILD):
        return False
    hides = any(f"{path}{end}" in published.files for end in (".js", ".node"))
    return hides or (_can_load(path, node) and (node.kind is Kind.LINK or "." in posixpath.basename(path)))


def _name_some(place: _Place, paths: Sequence[str]) -> str:
    named = ", ".join(escape_path(_join(place, each)) for each in sorted(paths)[:MOST_NAMED])
    return named + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")
