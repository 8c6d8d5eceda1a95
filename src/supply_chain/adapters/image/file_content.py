"""Detection of what an image's file is, by its content, not its name: program, archive, package database or secret."""

from __future__ import annotations

import codecs
import hashlib
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from supply_chain.adapters.files.free_space import require_space
from supply_chain.adapters.image.ar_members import ArMembers, is_foreign_ar
from supply_chain.adapters.image.compression import BLOCK, UNPACKED, DeflateScanner, detect_compression, unpack_start
from supply_chain.adapters.image.embedded import START, EmbeddedContent, find_archive, has_tar_checksum
from supply_chain.adapters.image.secret_forms import (
    LONGEST_FORM,
    MARKS,
    MOST_SECRETS,
    PEM,
    find_secret_patterns,
    is_wide,
)
from supply_chain.adapters.image.zip_entries import ZIP_STARTS, ZipEntries
from supply_chain.adapters.image.zlib_streams import AppendedZlib

CHUNK = 1024 * 1024
HEAD = 64 * 1024
"""Bytes at a file's beginning that are examined; the content of a smaller file is stored."""
TAIL = 66 * 1024
"""Bytes at a file's end that are examined: a zip archive's directory ends with a comment of at most 64 KiB."""
INSIDE = 64 * 1024
"""Bytes of unpacked content that suffice to identify it."""
DEEPEST = 3
"""Maximum depth of nested compressed files that are unpacked."""

MACHINES = {"amd64": "x86-64", "arm64": "AArch64"}
"""A platform's architecture (Go's name) → the machine that its programs are for."""
NAMES = {3: "i386", 8: "MIPS", 21: "PowerPC64", 22: "S390", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
"""ELF's `e_machine` → the machine (System V ABI, "ELF Header")."""
EXECUTABLES = (2, 3)
"""ELF's `e_type` of what can run: ET_EXEC and ET_DYN; a shared library is ET_DYN too."""
HEADER = 20
"""Bytes of an ELF header up to the end of `e_machine`."""
_MARKS = tuple(MARKS)
SINGLE_EXECUTABLE = b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1"
"""Bytes in a Node.js program that contains an application ("Single executable applications")."""
BUNDLE = bytes.fromhex("8b1202b96a612038727b930214d7a03213f5b9e6efae3318ee3b2dce24b36aae")
"""Bytes in a .NET program after the place of the application in it, which is 0 if there is none ("Single-file")."""
APPENDED = ((b"\n---- Bun! ----\n", "Bun application"), (b"d3n0l4nd", "Deno application"))
"""Bytes near the end of a program that contains an application; the plain program has them elsewhere."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """Facts about a regular file."""

    sha256: bytes
    machine: str = ""
    """Machine that the program is for; empty if it is not a program."""
    archive: str = ""
    """Format of the archive or file system in the file; empty if none."""
    database: str = ""
    """Package manager whose records the file holds; empty if none."""
    place: int = -1
    """Position of a small file's stored content; -1 if it is not stored."""
    size: int = 0
    text: bool = False
    """Whether the beginning has no zero byte, starts with a byte order mark, or is UTF-8, UTF-16 or UTF-32."""
    secrets: tuple[tuple[int, str], ...] = ()
    """Line and kind of each likely secret."""
    packed: tuple[tuple[int, str], ...] = ()
    """Line and kind of each likely secret in compressed content; the line counts in the unpacked content."""
    unsearched: bool = False
    """Whether the file is a compressed text of which only the first `UNPACKED` bytes are searched for secrets."""


class ContentStore:
    """Stores the content of small files in a temporary file, so that memory does not grow with them.

    `directory` is where the file is, and keeps its reserve of free space; None: the file is in memory.
    """

    def __init__(self, file: IO[bytes], directory: Path | None = None) -> None:
        self._file, self._directory = file, directory

    def store(self, content: bytes) -> int:
        """Store a content and return the position to read it from; raise `DiskFull` if it would use the reserve."""
        if self._directory is not None:
            require_space(self._directory, "The files of an image are not read")
        place = self._file.seek(0, io.SEEK_END)
        self._file.write(content)
        return place

    def read(self, content: FileContent) -> bytes | None:
        """Return a file's content; None if it was too large to store."""
        if content.place < 0:
            return None
        self._file.seek(content.place)
        return self._file.read(content.size)


def read_file(
    stream: IO[bytes] | None, size: int, keeper: ContentStore, *, secrets: bool, keep: int = HEAD
) -> FileContent:
    """Read a file once, from beginning to end, and return the facts about it; with `secrets`, search it for secrets.

    The content is stored if it has at most `keep` bytes.
    """
    digest, start, tail, left, line = hashlib.sha256(), b"", b"", b"", 1
    most = size_read = 0
    places, packed = _Places(), _Places()
    single, entries, deflated, inside = "", ZipEntries(), DeflateScanner(), list[bytes]()
    embedded, members = EmbeddedContent(_identify), ArMembers()
    appended = AppendedZlib()
    while stream is not None and (chunk := stream.read(CHUNK)):
        digest.update(chunk)
        most = most or max(keep, START if detect_compression(chunk) else HEAD)
        if len(start) < most:
            start += chunk[: most - len(start)]
        tail = (tail + chunk)[-TAIL:]
        piece, place = left + chunk, size_read - len(left)
        if start[:4] == b"\x7fELF":
            single = single or _find_application(piece)
            appended.search(piece, place, end=size_read + len(chunk) >= size)
        entries.search(piece, place)
        size_read += len(chunk)
        members.search(piece, place, end=size_read >= size)
        left = piece[-LONGEST_FORM:]
        for content in embedded.read(chunk, end=size_read >= size):
            packed.add(find_secret_patterns(content) if secrets else ())
        if secrets:
            places.add(find_secret_patterns(piece, line, program=start.startswith(b"\x7fELF")))
            for content in deflated.read(piece, place):
                packed.add(each for each in find_secret_patterns(content) if not (deflated.compiled and each[1] == PEM))
            line += piece.count(b"\n") - left.count(b"\n")
    head, form = start[:HEAD], _compressed_format(start, inside, cut=len(start) < size)
    other = embedded.form or appended.form or ("ar" if members.foreign else "") or ("zip" if entries.hidden else "")
    if start[:4] == b"\x7fELF":
        single = single or next((name for mark, name in APPENDED if mark in tail), "")
    for content in inside if secrets else ():
        packed.add(find_secret_patterns(content))
    return FileContent(
        sha256=digest.digest(),
        machine=detect_machine(head),
        archive=single or _choose(detect_archive(head, tail, size, entries), form, other),
        database=detect_database(head),
        place=keeper.store(start) if size <= keep else -1,
        size=min(len(start), keep),
        text=b"\0" not in head or head.startswith(_MARKS) or is_wide(head) or _is_utf8(head, cut=size > HEAD),
        secrets=places.sorted(),
        packed=packed.sorted(),
        unsearched=any(len(each) >= UNPACKED and b"\0" not in each for each in inside),
    )


def _find_application(piece: bytes) -> str:
    """Return the kind of the application in a piece of a program that can hold one; empty if none."""
    if SINGLE_EXECUTABLE in piece:
        return "Node.js application"
    at = piece.find(BUNDLE)
    while at >= 0:
        if piece[max(0, at - 8) : at].strip(b"\0"):
            return ".NET application"
        at = piece.find(BUNDLE, at + 1)
    return ""


def _choose(form: str, compressed: str, embedded: str) -> str:
    """Return the format to report; a Java archive is judged, unless it contains another one that is not compressed."""
    if form == "jar" and embedded in ("", "zip"):
        return form
    return (form if form != "jar" else "") or compressed or embedded


class _Places:
    """Places of secrets by kind."""

    def __init__(self) -> None:
        self._lines: dict[str, set[int]] = {}

    def add(self, places: Iterable[tuple[int, str]]) -> None:
        """Add places, up to `MOST_SECRETS` lines of each kind."""
        for line, kind in places:
            if len(lines := self._lines.setdefault(kind, set())) < MOST_SECRETS:
                lines.add(line)

    def sorted(self) -> tuple[tuple[int, str], ...]:
        """Return line and kind of all places, sorted."""
        return tuple(sorted((line, kind) for kind, lines in self._lines.items() for line in lines))


def _is_utf8(content: bytes, *, cut: bool) -> bool:
    """Return whether a content is UTF-8, zero bytes included; with `cut`, its last character may be incomplete."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, final=not cut)
    except UnicodeDecodeError:
        return False
    return True


def detect_machine(head: bytes) -> str:
    """Return the machine that a program is for; empty if the file is not an ELF program or library."""
    if head[:4] != b"\x7fELF" or len(head) < HEADER:
        return ""
    order: Literal["big", "little"] = "big" if head[5] == 2 else "little"
    kind, machine = (int.from_bytes(head[at : at + 2], order) for at in (16, 18))
    if kind not in EXECUTABLES:
        return ""
    return NAMES.get(machine, f"machine {machine}") + (", big-endian" if order == "big" else "")


HEADS = (
    (b"\xed\xab\xee\xdb", "rpm"),
    (b"!<arch>\ndebian-binary", "deb"),
    (b"hsqs", "squashfs"),
    (b"sqsh", "squashfs"),
    (b"070701", "cpio"),
    (b"070702", "cpio"),
    (b"070707", "cpio"),
    (b"\xc7\x71", "cpio"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"MSCF\0\0\0\0", "cabinet"),
    (b"QFI\xfb", "disk image"),
    (b"KDMV", "disk image"),
    (b"ADBd", "apk"),
    (b"xar!", "xar"),
    (b"MSWIM\0\0\0", "wim"),
    (b"XFSB", "xfs"),
    (b"\x45\x3d\xcd\x28", "cramfs"),
    (b"-rom1fs-", "romfs"),
    (b"LZIP\x01", "lzip"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"LRZI\0", "lrzip"),
    (b"\xff\x06\0\0sNaPpY", "snappy"),
    (b"zPQ\x01", "zpaq"),
    (b"zPQ\x02", "zpaq"),
    (b"7kSt\xa0\x31\x83\xd3\x8c\xb2\x28\xb0\xd3", "zpaq"),
    (b"vhdxfile", "disk image"),
    (b"!<thin>\n", "ar"),
)
"""Beginning of an archive, or of a compressed file that is not unpacked → format."""
_STARTS = tuple(start for start, _ in HEADS)
_SHORT_STARTS = (
    (re.compile(rb"\x1f\x9d[\x09-\x10\x89-\x90]"), "compress"),
    (re.compile(rb"(?s)..-(lh[0-9dx]|lz[0-9s]|pm[0-2])-"), "lha"),
    (re.compile(rb"(?s)\x60\xea.[\0-\x0a][\x1e-\x2e]"), "arj"),
)
"""Pattern of an archive's beginning, whose identifier alone is too short → format."""
MANIFEST = b"META-INF/MANIFEST.MF"
"""Name of the first entry in a Java archive (JAR File Specification)."""
EMBEDDED = b"MEI\014\013\012\013\016"
"""PyInstaller's marker near the end of a program that contains an archive."""


def detect_archive(head: bytes, tail: bytes, size: int, entries: ZipEntries) -> str:
    """Return the format of an archive, also of one appended to a program; empty if there is none."""
    if EMBEDDED in tail:
        return "PyInstaller"
    if form := _format_by_start(head):
        return form
    if entries.end_in(tail, size):
        return "jar" if MANIFEST in head and entries.java and entries.are_counted(tail, size) else "zip"
    return "zip" if head.startswith(ZIP_STARTS) else ""


def _format_by_start(head: bytes) -> str:
    """Return the format of an archive by its beginning; empty if none."""
    if head.startswith(_STARTS):
        return next(name for start, name in HEADS if head.startswith(start))
    return next((name for is_of, name in _FORMATS if is_of(head)), "")


def is_tar(head: bytes) -> bool:
    """Return whether a file begins with a tar header: `ustar`, or an older one with a valid checksum."""
    if len(head) < BLOCK:
        return False
    block = head[:BLOCK]
    if block[257:262] == b"ustar":
        return True
    return has_tar_checksum(block)


_FORMATS: tuple[tuple[Callable[[bytes], object], str], ...] = (
    (lambda head: head[:4] == b"\x7fELF" and head[8:11] in (b"AI\x01", b"AI\x02"), "AppImage"),
    (lambda head: head[1080:1082] == b"\x53\xef" and int.from_bytes(head[1048:1052], "little") < 7, "ext file system"),
    (lambda head: head[32769:32774] == b"CD001", "iso9660"),
    (lambda head: head[1024:1028] == b"\xe2\xe1\xf5\xe0", "erofs"),
    (lambda head: head[:4] == b"\4\0\0\0" and head[16:].startswith(b'{"files":'), "asar"),
    (is_tar, "tar"),
    (is_foreign_ar, "ar"),
    *((pattern.match, name) for pattern, name in _SHORT_STARTS),
)
"""Function that returns whether a file's beginning has a format, in the order in which they are called → format."""


def _identify(start: bytes, unpacked: list[bytes]) -> str:
    return _compressed_format(start, unpacked, cut=len(start) == START)


def _compressed_format(start: bytes, unpacked: list[bytes], *, cut: bool, depth: int = DEEPEST) -> str:
    """Return the format of the archive in a compressed file, such as a Debian, Alpine or pacman package.

    A single compressed file is not an archive. Its unpacked content decides, at any place in its first `UNPACKED`
    bytes, and is added to `unpacked`. `start` is the complete file or its first `START` bytes; with `cut`, the file
    continues after them. The format is `unknown` if the unpacked start is too short to decide, or has too many nested
    compressed files.
    """
    name = detect_compression(start)
    if not name:
        return ""
    inside, more = unpack_start(start, name, UNPACKED, cut=cut)
    if detect_compression(inside):
        inside, more = unpack_start(start, name, START, cut=cut)
    unpacked.append(inside)
    form = _format_by_start(inside) or ("zip" if inside.startswith(b"PK\x03\x04") else "")
    if not form and detect_compression(inside):
        form = _compressed_format(inside, unpacked, cut=more, depth=depth - 1) if depth else "unknown"
    if not form and b"\0" in inside:  # no archive is a text, and most compressed files of an image are one
        form = find_archive(inside)
    if not form and more and len(inside) < INSIDE:
        form = "unknown"
    return f"{form}, {name}" if form else ""


FIELDS = re.compile(rb"\n*(?:[!-9;-~]{1,80}:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z))+")
"""A package's fields in records of dpkg and apk, in any order (deb-control(5), apk-installed(5))."""
TABLE = re.compile(rb"CREATE TABLE\s+[\"'`\[]?(Packages|ValidPaths)\b", re.IGNORECASE)
"""Beginning of the definition of a table of rpm or nix."""


def detect_database(head: bytes) -> str:
    """Return the package manager whose records a file holds; empty if none."""
    if head.startswith(b"SQLite format 3\0"):
        table = TABLE.search(head)
        return {b"packages": "rpm", b"validpaths": "nix"}[table[1].lower()] if table else ""
    if head.startswith(b"RpmP") or head[12:16] in (b"\x61\x15\x06\0", b"\0\x06\x15\x61"):
        return "rpm"
    if head.startswith(b"%NAME%\n") and b"%VERSION%" in head:
        return "pacman"
    possible = (b"Package:" in head and b"Version:" in head) or b"C:Q" in head
    fields = FIELDS.match(head) if possible else None
    stanza = b"\n" + fields.group().lstrip(b"\n") if fields else b""
    if b"\nPackage:" in stanza and b"\nVersion:" in stanza:
        return "dpkg" if b"\nStatus:" in stanza or b"\nFilename:" not in stanza else ""  # apt's indexes have no status
    return "apk" if b"\nC:Q" in stanza and b"\nP:" in stanza and b"\nV:" in stanza else ""
