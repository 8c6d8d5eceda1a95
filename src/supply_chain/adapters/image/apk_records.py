"""Records of apk in an image (apk-installed(5)), read as scanners read them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from supply_chain.adapters.image.database_paths import OWN, list_scanned
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, escape_path

Files = Filesystem[FileContent]

MANAGER = "apk"
FIELD = re.compile(r"([A-Za-z]):([^\x00-\x08\x0a-\x1f\x7f]*)")
"""A line that apk writes; scanners and apk differ in what they make of other ones."""
ONCE = frozenset("ACDILPSTUVcmop")
"""Fields that syft reads of a package (its parse_apk_db.go), which apk writes once."""
NEEDED = frozenset("PV")
"""Fields without which there is no package: its name and version."""
AFTER = {"F": "P", "R": "P", "M": "F", "a": "R", "Z": "R"}
"""Field → the field that has to be before it. Without it, apk does not read the records, and syft ends."""
REMEDY = "let apk write it, or review this line"


@dataclass(frozen=True)
class ApkRecord:
    """A record of an installed package."""

    path: str
    line: int
    name: str
    version: str
    source: str
    """Name of the package's source, which apk calls its origin; empty if the record names none."""
    files: tuple[str, ...]
    """Paths of its files and links, as apk reads them."""

    @property
    def title(self) -> str:
        """Name and version as printable text."""
        return escape_path(f"{self.name} {self.version}")[:200]

    def describe(self) -> str:
        """Return name, version and source as printable text."""
        return self.title + (f" of the source {escape_path(self.source)[:100]}" if self.source else "")


def find_apk_databases(files: Files, checkpoint: Callable[[], object]) -> dict[str, FileContent]:
    """Return path → content of each file that syft reads as records of apk.

    Those in other places than apk's own are a second database, which the owner has to accept.
    """
    return {
        path: node.content
        for path, node, manager in list_scanned(files, checkpoint)
        if manager == MANAGER and node.content and posixpath.dirname(path) in OWN[MANAGER]
    }


def read_apk_records(
    files: Files, keeper: ContentStore, checkpoint: Callable[[], object]
) -> tuple[list[ApkRecord], list[str]]:
    """Return the records in an image, and `path:line: why` for each database that cannot be believed.

    `checkpoint` is called for each record, and may raise.
    """
    records, false_claims = list[ApkRecord](), list[str]()
    for path, content in sorted(find_apk_databases(files, checkpoint).items()):
        stored = keeper.read(content)
        if stored is None:
            number, why = 1, "records of apk that are too large, and are not read"
        else:
            lines = stored.decode("utf-8", "surrogateescape").split("\n")
            number, why = find_invalid_line(lines), "a line that apk does not write among its records"
            if not number:
                for record in parse_apk(path, lines):
                    checkpoint()
                    records.append(record)
        if number:
            false_claims.append(f"{escape_path(path)}:{number}: {why}; {REMEDY}")
    return records, false_claims


def find_invalid_line(lines: Iterable[str]) -> int:
    """Return the number of the first line that apk would not write, of which scanners may read something else.

    A record without name or version is invalid at its first line. Returns 0 if all lines are valid.
    """
    fields, begin = set[str](), 0
    for number, line in enumerate((*lines, ""), start=1):
        if not line:
            if fields and not fields >= NEEDED:
                return begin
            fields.clear()
            continue
        match = FIELD.fullmatch(line)
        kind, value = match.groups() if match else ("", "")
        is_missing = (kind in NEEDED and not value) or not fields.issuperset(AFTER.get(kind, ""))
        if not match or kind in fields & ONCE or is_missing:
            return number
        begin = begin if fields else number
        if value or kind in ONCE:  # syft skips an empty field
            fields.add(kind)
    return 0


def parse_apk(path: str, lines: Iterable[str]) -> Iterator[ApkRecord]:
    """Yield the records in the valid lines of a database with this path."""
    fields, begin = dict[str, str](), 1
    listed: list[tuple[str, str]] = []
    for number, line in enumerate((*lines, ""), start=1):
        kind, value = line[:1], line[2:]
        if not kind and fields:
            name, version, source = fields["P"], fields["V"], fields.get("o", "")
            yield ApkRecord(path, begin, name, version, source, tuple(_list_files(listed)))
            fields, listed = {}, []
        elif kind in ("F", "R"):
            listed.append((kind, value))
        elif kind:
            begin = begin if fields else number
            fields[kind] = value


def _list_files(listed: Iterable[tuple[str, str]]) -> Iterator[str]:
    directory = ""
    for kind, value in listed:
        if kind == "F":
            directory = value
        else:
            yield _join(directory, value)


def _join(directory: str, name: str) -> str:
    return posixpath.normpath(f"///{directory}/{name}")  # of three slashes it leaves one, and of two it leaves both
