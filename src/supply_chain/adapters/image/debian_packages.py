"""Debian packages in an image, compared with what archives published under their names.

A step of a build can write any record of dpkg. Scanners believe it, so a false version or source hides vulnerabilities;
its list of files would say of any code that a package installed it.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from supply_chain.adapters.image.debian_version import version_key
from supply_chain.adapters.image.distribution import list_scanned, read_distribution
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, escape_path
from supply_chain.adapters.image.package_records import Digest, resolve_directory
from supply_chain.evidence.examination import Identity

Files = Filesystem[FileContent]

MANAGER, PLACE = "dpkg", "/var/lib/dpkg/"
NAMED = ("package", "version", "source", "architecture", "status")
"""Fields that say what is installed (deb-control(5)), in lower case."""
SOURCE_VERSION = "sourceversion"
"""A field that no record of dpkg has, and that syft takes for the version of the source."""
SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?")
ARCHITECTURES = {"386": "i386", "arm": "armhf", "mips64le": "mips64el", "ppc64le": "ppc64el"}
"""A platform's architecture (Go's name) → Debian's name for it, if it is another one."""
ALL = "all"
"""Architecture of packages for every machine."""
NOT_INSTALLED = "not-installed"
"""In the status of a package that somebody only selected; it has no version."""
REMOVED = "deinstall"
"""In the status of a package that only left configuration files; syft leaves it out."""
LISTS = (".md5sums", ".conffiles")
"""End of the name of a list of a package's files that syft reads: it reports no program that a package owns."""
CONFFILES = "conffiles"
"""The field with a package's configuration files, which syft reads as such a list."""
MOST_PACKAGES, MOST_FILES = 3000, 1_000_000
"""Maximum Debian packages of an image, and maximum files in them."""
TEXT = r"[^\x00-\x08\x0a-\x1f\x7f]*"
"""A part of a line; scanners and dpkg differ in what they make of other control characters."""
FIELD, CONTINUATION = re.compile(rf"([A-Za-z][A-Za-z0-9-]*):({TEXT})"), re.compile(f" {TEXT}")
"""The lines of a record that dpkg writes (deb-control(5))."""
SPELLING = {
    name.replace("-", "").lower(): name
    for name in (
        *("Architecture", "Conffiles", "Depends", "Description", "Installed-Size", "Maintainer", "Package"),
        *("Pre-Depends", "Provides", "Source", "Status", "Version"),
    )
}
"""The fields that syft reads, as dpkg spells them; syft compares them without case and hyphens."""
INSTALLED_SIZE = "installedsize"
VERSION = re.compile(r"([0-9]{1,9}:)?[0-9][A-Za-z0-9.+~:-]{0,255}")
"""A version (deb-version(7)). Scanners find no vulnerabilities of one that they cannot compare."""
RECORD = re.compile(rb"^package[ \t]*:", re.IGNORECASE | re.MULTILINE)
REMEDY_FOR_RECORD = "let dpkg write it, or review this line"
MOST_NAMED = 3
CODE = re.compile(r".*\.(pyw?|pth|so(\.[\d.]+)?|pl|pm|rb|[cm]?js|jar|sh)", re.IGNORECASE | re.DOTALL)
"""Path of a file with code, whatever it begins with."""
STARTS = (b"\x7fELF", b"#!")
"""Beginning of a program, a library or a script."""
NO_CODE = ("/etc/", "/usr/share/doc/")
"""Where administrators may change a package's files, or leave them out (Debian policy, 10.7 and 12.3)."""
REMEDY = "install it from an archive of debian_archives, add the archive that it is from, or review this line"


@dataclass(frozen=True)
class DebianPackage:
    """A package by its record in an image."""

    name: str
    version: str
    architecture: str
    source: str
    """Name and version of its source."""


@dataclass(frozen=True)
class PublishedPackage:
    """What archives published, or a base has, as a package of this name, version and architecture."""

    has_name: bool = True
    """Whether an archive has the name."""
    newest: str = ""
    """Newest version of this name in the archives of the image's distribution; empty if they have none, or if there is
    no archive of the distribution."""
    others: Set[str] = frozenset()
    """Other architectures for which the archives have this version."""
    sources: Set[str] = frozenset()
    """Name and version of its source, as `DebianPackage` has them; empty if no archive has this version."""
    files: Mapping[str, Set[bytes]] = field(default_factory=dict)
    """Path in the package → SHA-256 of each regular file; archives can have several packages of a version."""
    code: Set[str] = frozenset()
    """Paths of programs, libraries and scripts, which nobody changes but by installing another version."""
    links: Mapping[str, Set[str]] = field(default_factory=dict)
    """Path of each symbolic link with the name of code, such as `libhat.so.2` → its targets."""


def is_code(path: str, start: bytes) -> bool:
    """Return whether a package's file with this path, which begins so, is code."""
    return not path.startswith(NO_CODE) and bool(start.startswith(STARTS) or CODE.fullmatch(path))


class DebianArchive(Protocol):
    """Archives of Debian packages."""

    def find(
        self, packages: Collection[DebianPackage], distribution: Identity | None
    ) -> Mapping[DebianPackage, PublishedPackage]:
        """Return what was published as each package of an image of a distribution; raise `PackageIndexFailed`.

        Raises `ValueError` for packages with more bytes than are compared.
        """


@dataclass(frozen=True)
class DebianPackages:
    """What is known of the Debian packages in an image."""

    digests: Mapping[str, tuple[Digest, ...]] | None = None
    """Path without links → digests of what was published to be there; None: the packages' own records count."""
    false_claims: tuple[str, ...] = ()
    """`path:line: why` for each record that claims what no archive published."""
    unknown: tuple[str, ...] = ()
    """Name and version of each package that the archives have in other versions only: they forget the older ones."""
    uncompared: int = 0
    """Number of packages that were not compared, because there is no archive."""


@dataclass(frozen=True)
class _Record:
    """A record of an installed package."""

    path: str
    line: int
    package: DebianPackage
    conffiles: str = ""
    """Its list of configuration files, one a line, each with its MD5."""

    def explain(self, why: str) -> str:
        """Return the sentence about a false claim."""
        about = escape_path(f"{self.package.name} {self.package.version} ({self.package.architecture})")
        return f"{escape_path(self.path)}:{self.line}: it claims to be {about}, {why}; {REMEDY}"


def read_debian_packages(
    files: Files,
    keeper: ContentStore,
    archive: DebianArchive | None,
    architecture: str,
    checkpoint: Callable[[], object] = lambda: None,
    read_base: Callable[[], Files | None] = lambda: None,
) -> DebianPackages:
    """Return what is known of the Debian packages in an image, compared with what `archive` has.

    `architecture` is the image's (Go's name), whose packages alone count; empty: it is not known. A file counts as
    installed by a package only if it is what an archive published. Of a package that no archive has in this version,
    nothing counts as installed, unless the base has it too: `read_base`, called if it is needed, returns the files of
    the image's curated base. Without an archive, the packages' own records count. `checkpoint` is called for each file,
    and may raise. Raises `PackageIndexUnavailable` or `PackageIndexFailed`, and `ValueError` for more packages than are
    compared.
    """
    records, false_claims = _read_records(files, keeper, checkpoint)
    if archive is None:
        return DebianPackages(uncompared=len(records))
    machine = ARCHITECTURES.get(architecture, architecture)
    own = list[_Record]()
    for record in records:
        if not machine or record.package.architecture in (machine, ALL):
            own.append(record)
        else:  # its files would be in other places, where nothing differs
            false_claims.append(record.explain(f"in an image for {machine}"))
    published = dict(archive.find({each.package for each in own}, read_distribution(files, keeper)))
    missing = {package for package, each in published.items() if not each.sources}
    if missing and (base := read_base()) is not None:
        published |= _find_in_base(base, keeper, missing, checkpoint)
    return _compare(files, keeper, own, published, false_claims, checkpoint)


def _find_in_base(
    base: Files, keeper: ContentStore, packages: Set[DebianPackage], checkpoint: Callable[[], object]
) -> dict[DebianPackage, PublishedPackage]:
    """Return those of the packages that a curated base has, with the files that its lists name."""
    same = packages & {each.package for each in _read_records(base, keeper, checkpoint)[0]}
    lists, links = (_find_lists(base), _find_code_links(base)) if same else ({}, {})
    return {package: _describe_installed(base, keeper, package, lists.get(package.name, ()), links) for package in same}


def _find_code_links(base: Files) -> dict[str, dict[str, str]]:
    """Return the path of a file → path and target of each link with the name of code that leads to it."""
    links = defaultdict[str, dict[str, str]](dict)
    for path, node in base.walk():
        if node.kind is Kind.LINK and is_code(path, b"") and (file := base.resolve(path)):
            links[file[0]][path] = node.target
    return links


def _describe_installed(
    base: Files,
    keeper: ContentStore,
    package: DebianPackage,
    lists: Collection[FileContent],
    links: Mapping[str, Mapping[str, str]],
) -> PublishedPackage:
    """Return what a base has of a package: the files that its lists name, and the links to its code."""
    found, code, leading = dict[str, Set[bytes]](), set[str](), dict[str, Set[str]]()
    for path in (path for each in lists for path in _list_paths(keeper.read(each) or b"")):
        file = base.resolve(path)
        if file and file[1].content:
            content = file[1].content
            found[path] = frozenset({content.sha256})
            start = STARTS[0] if content.machine else (keeper.read(content) or b"")[:4]
            if is_code(path, start):
                code.add(path)
                leading |= {link: {target} for link, target in links.get(file[0], {}).items()}
    return PublishedPackage(sources={package.source}, files=found, code=code, links=leading)


def _read_records(
    files: Files, keeper: ContentStore, checkpoint: Callable[[], object]
) -> tuple[list[_Record], list[str]]:
    """Return the records in an image, and why others are false."""
    records, false_claims = list[_Record](), list[str]()
    for path, content in _find_status(files):
        for line, fields in _parse_status(keeper, path, content, false_claims):
            checkpoint()
            package = _parse_package(fields)
            if isinstance(package, DebianPackage):
                if len(records) == MOST_PACKAGES:
                    raise ValueError(f"it has more than {MOST_PACKAGES} Debian packages")
                records.append(_Record(path, line, package, dict(fields).get(CONFFILES, "")))
            elif package:
                false_claims.append(f"{escape_path(path)}:{line}: {package}; {REMEDY_FOR_RECORD}")
    return records, false_claims


def _find_status(files: Files) -> Iterator[tuple[str, FileContent]]:
    """Yield each file that syft reads as records of dpkg, with its path.

    Those in other places are a second database, which the owner has to accept; they vouch for no file.
    """
    found = {
        path: node.content
        for path, node, manager in list_scanned(files)
        if manager == MANAGER and node.content and path.startswith(PLACE)
    }
    yield from sorted(found.items(), key=lambda each: each[0])


def _parse_status(
    keeper: ContentStore, path: str, content: FileContent, false_claims: list[str]
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    stored = keeper.read(content)
    if stored is None:
        false_claims.append(
            f"{escape_path(path)}:1: records of dpkg that are too large, and are not read; {REMEDY_FOR_RECORD}"
        )
    elif path.endswith(LISTS) and not RECORD.search(stored):
        return  # a list of files in `status.d`
    elif number := _find_invalid_line(stored):
        false_claims.append(
            f"{escape_path(path)}:{number}: a line that dpkg does not write among its records; {REMEDY_FOR_RECORD}"
        )
    else:
        yield from parse_status(stored)


def _find_invalid_line(content: bytes) -> int:
    """Return the number of the first line that dpkg would not write, of which scanners may read something else.

    Returns 0 if there is none.
    """
    lines, is_record = content.decode("utf-8", "replace").split("\n"), False
    for number, line in enumerate(lines, start=1):
        if line.startswith(" "):
            is_valid = is_record and bool(CONTINUATION.fullmatch(line))
        elif line:
            match = FIELD.fullmatch(line)
            name = match[1].replace("-", "").lower() if match else ""
            is_valid = match is not None and SPELLING.get(name, match[1]) == match[1]
            is_valid = is_valid and (name != INSTALLED_SIZE or line.partition(":")[2].strip(" ").isdecimal())
        else:
            is_valid = True
        is_last = number == len(lines)
        if not is_valid or (is_last and line):  # syft does not read a last line without its end
            return number
        is_record = bool(line)
    return 0


def parse_status(content: bytes) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Yield the first line and the fields of each package.

    Names are in lower case and without hyphens, which is how syft compares them (its parse_dpkg_db.go).
    """
    fields, begin = list[tuple[str, list[str]]](), 1
    for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), start=1):
        if not line:
            if fields:
                yield begin, _join(fields)
            fields = []
        elif line.startswith(" "):
            if fields:
                fields[-1][1].append(f" {line.strip()}")
        else:
            name, colon, value = line.partition(":")
            if colon and name:
                begin = begin if fields else number
                fields.append((name.strip().replace("-", "").lower(), [value.strip()]))
    if fields:
        yield begin, _join(fields)


def _join(fields: list[tuple[str, list[str]]]) -> list[tuple[str, str]]:
    return [(name, "\n".join(lines)) for name, lines in fields]


def _parse_package(fields: list[tuple[str, str]]) -> DebianPackage | str:
    """Return the package of a record, or why none can be read from it; an empty text if none is installed."""
    named = dict(fields)
    if len(named) != len(fields) or SOURCE_VERSION in named:
        return "a record of dpkg that names a field several times, or one that dpkg does not write"
    package, version, source, architecture, status = (named.get(each, "") for each in NAMED)
    if not package or REMOVED in status or (not version and NOT_INSTALLED in status):
        return ""
    match = SOURCE.fullmatch(source or package)
    if match is None or not version:
        return f"a record of dpkg without a version, or with the invalid source {escape_path(source)[:100]!r}"
    if not VERSION.fullmatch(version):
        return f"a record of dpkg with the invalid version {escape_path(version)[:100]!r}"
    return DebianPackage(package, version, architecture, name_source(match[1], match[2] or version))


def name_source(name: str, version: str) -> str:
    """Return name and version of a source as one text."""
    return f"{name} {version}"


def _compare(
    files: Files,
    keeper: ContentStore,
    records: list[_Record],
    published: Mapping[DebianPackage, PublishedPackage],
    false_claims: list[str],
    checkpoint: Callable[[], object],
) -> DebianPackages:
    if sum(len(published[each.package].files) for each in records) > MOST_FILES:
        raise ValueError(f"its Debian packages have more than {MOST_FILES} files")
    digests, links = defaultdict[str, set[bytes]](set), defaultdict[str, set[str]](set)
    places, directories = dict[str, str](), dict[str, str]()
    for package in {each.package: None for each in records}:
        for path in (*published[package].files, *published[package].links):
            checkpoint()
            places[path] = resolve_directory(files, path, directories)
            digests[places[path]] |= published[package].files.get(path, set())
            for target in published[package].links.get(path, ()):  # whoever merges directories may adjust it
                links[places[path]].add(posixpath.normpath(posixpath.join(posixpath.dirname(path), target)))
    claims = _Published(files, places, digests, links)
    unknown, lists = list[str](), _find_lists(files)
    reasons = dict[tuple[DebianPackage, str], str]()
    for record in records:
        checkpoint()
        each, key = published[record.package], (record.package, record.conffiles)
        if key not in reasons:
            reasons[key] = (
                _explain(record.package, each)
                or claims.explain_code(each)
                or claims.explain_lists(keeper, record, lists, each, directories, checkpoint)
            )
        if reasons[key]:
            false_claims.append(record.explain(reasons[key]))
        elif not each.sources:
            unknown.append(escape_path(f"{record.package.name} {record.package.version}")[:200])
    return DebianPackages(
        {path: tuple(("sha256", digest) for digest in sorted(listed)) for path, listed in digests.items() if listed},
        tuple(sorted(false_claims)),
        tuple(sorted(set(unknown))),
    )


def _explain(package: DebianPackage, published: PublishedPackage) -> str:
    """Return why a record is false, as far as the archives' lists of packages say."""
    if published.sources:
        if package.source in published.sources:
            return ""
        return f"which is of the source {' or '.join(sorted(published.sources))}, not {escape_path(package.source)}"
    if published.others:
        return f"and the archives have it for {' and '.join(sorted(published.others))}"
    # a version that equals the newest, and is not found, is another spelling of it
    if published.newest and version_key(package.version) >= version_key(published.newest):
        return f"and the newest that the archives have is {published.newest}"
    return ""


@dataclass(frozen=True)
class _Published:
    """What was published to be in an image."""

    files: Files
    places: Mapping[str, str]
    """Path in a package → path without links."""
    digests: Mapping[str, Set[bytes]]
    """Path without links → SHA-256 of the files of all packages."""
    links: Mapping[str, Set[str]]
    """Path without links → absolute paths of the targets of the links of all packages."""

    def explain_code(self, published: PublishedPackage) -> str:
        """Return which code of a package is not what any archive published to be there; empty if none.

        Some of it may be left out. If all of it is, other code may be in its place, as the names of libraries have
        versions.
        """
        places = {self.places[path] for path in (*published.code, *published.links)}
        found = {place: file for place in places if (file := self._find(place)) is not None}
        changed = {file[0] for place, file in found.items() if not self._is_published(place, *file)}
        if changed:
            return f"and what is published differs from {_name_some(changed)}"
        return "and none of its code is there" if places and not found else ""

    def explain_lists(
        self,
        keeper: ContentStore,
        record: _Record,
        lists: Mapping[str, Collection[FileContent]],
        published: PublishedPackage,
        directories: dict[str, str],
        checkpoint: Callable[[], object],
    ) -> str:
        """Return which files a package's lists name that no archive published in it; empty if none.

        A scanner reports nothing of what such a list names. A package that no archive has is none that vouches.
        """
        if not published.files:
            return ""
        own, foreign, texts = {self.places[path] for path in published.files}, set[str](), [record.conffiles.encode()]
        for each in lists.get(record.package.name, ()):
            texts.append(keeper.read(each) or b"")
            if not texts[-1] and each.size:
                return "and a list of its files is too large, and is not read"
        for path in (path for text in texts for path in _list_paths(text)):
            checkpoint()
            file = self._find(path)
            if file is None:
                continue
            place = resolve_directory(self.files, path, directories)
            if not self._may_list(file, path, place, own):
                foreign.add(path)
        return f"and its list has {_name_some(foreign)}, which no archive published in it" if foreign else ""

    def _may_list(self, file: tuple[str, FileContent], path: str, place: str, own: Set[str]) -> bool:
        """Return whether a package may list a file: one of its own; and no other program in its place."""
        real, content = file
        if content.machine:
            return real in own and content.sha256 in self.digests.get(real, ())
        return place in own or real in own or path.startswith(NO_CODE)

    def _find(self, path: str) -> tuple[str, FileContent] | None:
        file = self.files.resolve(path)
        return (file[0], file[1].content) if file and file[1].content else None

    def _is_published(self, place: str, real: str, content: FileContent) -> bool:
        if content.sha256 in self.digests.get(place, ()):
            return True
        targets = map(self._find, self.links.get(place, ()))
        return real in {target[0] for target in targets if target}


def _find_lists(files: Files) -> dict[str, list[FileContent]]:
    """Return the name of a package → the lists of its files in the image, next to the records or in `info`."""
    lists = defaultdict[str, list[FileContent]](list)
    places = {posixpath.dirname(path) for path, _ in _find_status(files)} | {f"{PLACE}status.d", PLACE}
    for directory in sorted({*places, *(posixpath.join(each, "info") for each in places)}):
        found = files.resolve(directory)
        for name in found[1].children if found else ():
            stem, dot, end = name.rpartition(".")
            file = files.resolve(posixpath.join(directory, name)) if dot + end in LISTS else None
            if file and file[1].content:
                lists[stem.partition(":")[0]].append(file[1].content)
    return lists


def _list_paths(text: bytes) -> Iterator[str]:
    """Yield what may be a path in each line of a list of files with their MD5, or of configuration files.

    Scanners and dpkg divide lines at spaces, which paths can have too (deb-md5sums(5), deb-conffiles(5)).
    """
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        words = (line, *line.partition(" ")[::2], *line.rpartition(" ")[::2], *line.split(maxsplit=1))
        for word in dict.fromkeys(each.strip().lstrip("/*") for each in words):
            if word:
                yield posixpath.normpath(f"/{word}")


def _name_some(paths: Set[str]) -> str:
    named = ", ".join(map(escape_path, sorted(paths)[:MOST_NAMED]))
    return named + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")
