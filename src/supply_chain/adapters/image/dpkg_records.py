"""Records of dpkg in an image: its database, and the lists of its packages' files, as scanners read them."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from supply_chain.adapters.image.database_paths import list_scanned
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, escape_path

Files = Filesystem[FileContent]

MANAGER, PLACE = "dpkg", "/var/lib/dpkg/"
NAMED = ("package", "version", "source", "architecture", "status")
"""Fields that say what is installed (deb-control(5)), in lower case."""
SOURCE_VERSION = "sourceversion"
"""A field that no record of dpkg has, and that syft takes for the version of the source."""
SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?")
ALL = "all"
"""Architecture of packages for every machine."""
NOT_INSTALLED = "not-installed"
"""In the status of a package that somebody only selected; it has no version."""
REMOVED = "deinstall"
"""In the status of a package that only left configuration files; syft leaves it out."""
LISTS = {
    ".md5sums": re.compile(rb"[0-9a-f]{32} [ *][^\0\r]+"),
    ".conffiles": re.compile(rb"(remove-on-upgrade )?/[^\0\r]*"),
}
"""End of the name of a list of a package's files → its lines (deb-md5sums(5), deb-conffiles(5))."""
MOST_PACKAGES = 3000
"""Maximum Debian packages of an image."""
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
NAME, ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*"), re.compile(r"[a-z0-9-]*")
"""Name and architecture of a package (Debian policy, 5.6.7 and 5.6.8). Scanners look for lists of others elsewhere."""
LISTED = re.compile(r"(?:[0-9a-f]{32} [ *]|(?:remove-on-upgrade )?/)(.+)")
"""A line of such a list with the path of a file."""
REMEDY_FOR_RECORD = "let dpkg write it, or review this line"
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
class Record:
    """A record of an installed package."""

    path: str
    line: int
    package: DebianPackage

    def explain(self, why: str) -> str:
        """Return the sentence about a false claim."""
        about = escape_path(f"{self.package.name} {self.package.version} ({self.package.architecture})")
        return f"{escape_path(self.path)}:{self.line}: it claims to be {about}, {why}; {REMEDY}"


def read_records(
    files: Files, keeper: ContentStore, checkpoint: Callable[[], object]
) -> tuple[list[Record], list[str]]:
    """Return the records in an image, and why others are false."""
    records, false_claims = list[Record](), list[str]()
    for path, content in find_status(files, checkpoint):
        for line, fields in _parse_status(keeper, path, content, false_claims):
            checkpoint()
            package = _parse_package(fields)
            if isinstance(package, DebianPackage):
                if len(records) == MOST_PACKAGES:
                    raise ValueError(f"it has more than {MOST_PACKAGES} Debian packages")
                records.append(Record(path, line, package))
            elif package:
                false_claims.append(f"{escape_path(path)}:{line}: {package}; {REMEDY_FOR_RECORD}")
    return records, false_claims


def find_status(files: Files, checkpoint: Callable[[], object]) -> Iterator[tuple[str, FileContent]]:
    """Yield each file that syft reads as records of dpkg, with its path.

    Those in other places are a second database, which the owner has to accept; they vouch for no file.
    """
    contents = {
        path: node.content
        for path, node, manager in list_scanned(files, checkpoint)
        if manager == MANAGER and node.content and path.startswith(PLACE)
    }
    yield from sorted(contents.items(), key=lambda each: each[0])


def _parse_status(
    keeper: ContentStore, path: str, content: FileContent, false_claims: list[str]
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    stored = keeper.read(content)
    if stored is None:
        false_claims.append(
            f"{escape_path(path)}:1: records of dpkg that are too large, and are not read; {REMEDY_FOR_RECORD}"
        )
    elif not (number := _find_line_outside_list(path, stored)):
        return  # a list of files in `status.d`
    elif invalid := _find_invalid_line(stored):
        number = max(number, invalid)
        false_claims.append(
            f"{escape_path(path)}:{number}: a line that dpkg does not write among its records; {REMEDY_FOR_RECORD}"
        )
    else:
        yield from parse_status(stored)


def _find_line_outside_list(path: str, content: bytes) -> int:
    """Return the number of the first line because of which a file is no list of a package's files; 0 if it is one.

    Syft reads every file in `status.d` as a record too, and its fields with any white space and hyphens in their names.
    """
    form = LISTS.get(posixpath.splitext(path)[1])
    if form is None:
        return 1
    lines = enumerate(content.split(b"\n"), start=1)
    return next((number for number, line in lines if line and not form.fullmatch(line)), 0)


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
    is_named = NAME.fullmatch(package) and ARCHITECTURE.fullmatch(architecture)
    if not package or REMOVED in status or (is_named and not version and NOT_INSTALLED in status):
        return ""
    match, why = SOURCE.fullmatch(source or package), ""
    if not is_named:
        why = f"with the invalid name or architecture {escape_path(f'{package}:{architecture}')[:100]!r}"
    elif match is None or not version:
        why = f"without a version, or with the invalid source {escape_path(source)[:100]!r}"
    elif not VERSION.fullmatch(version):
        why = f"with the invalid version {escape_path(version)[:100]!r}"
    if match is None or why:
        return f"a record of dpkg {why}"
    return DebianPackage(package, version, architecture, name_source(match[1], match[2] or version))


def name_source(name: str, version: str) -> str:
    """Return name and version of a source as one text."""
    return f"{name} {version}"


def find_lists(files: Files, checkpoint: Callable[[], object]) -> dict[str, list[FileContent]]:
    """Return the name of a package → the lists of its files in the image."""
    lists = defaultdict[str, list[FileContent]](list)
    for directory in ("info", "status.d"):
        resolved = files.resolve(f"{PLACE}{directory}")
        for name in resolved[1].children if resolved else ():
            checkpoint()
            stem, dot, end = name.rpartition(".")
            file = files.resolve(f"{PLACE}{directory}/{name}") if dot + end in LISTS else None
            if file and file[1].content:
                lists[stem.partition(":")[0]].append(file[1].content)
    return lists


def list_paths(text: bytes) -> Iterator[str]:
    """Yield the paths in a list of files with their MD5, or of configuration files."""
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        if match := LISTED.fullmatch(line):
            yield posixpath.normpath(f"/{match[1]}")
