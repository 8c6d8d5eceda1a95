"""What a file of an image is, by its content and not by its name: program, archive, package database, or a secret."""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Literal

import re2
import zstandard

CHUNK = 1024 * 1024
HEAD = 64 * 1024
"""Bytes of a file's beginning that are looked at; a smaller file is kept whole."""
TAIL = 66 * 1024
"""Bytes of a file's end that are looked at: a zip archive's directory ends with a comment of at most 64 KiB."""
INSIDE = 64 * 1024
"""Bytes that a compressed file is unpacked to, to see what is in it."""

MACHINES = {"amd64": "x86-64", "arm64": "AArch64"}
"""A platform's architecture (Go's name) → the machine its programs are for."""
NAMES = {3: "i386", 8: "MIPS", 21: "PowerPC64", 22: "S390", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
"""ELF's `e_machine` → the machine (System V ABI, "ELF Header")."""
EXECUTABLES = (2, 3)
"""ELF's `e_type` of what can be run: ET_EXEC and ET_DYN, which a library is too."""
HEADER = 20
"""Bytes of an ELF header up to its `e_machine`."""

PEM = "private key"
FORMS = (
    (PEM, b"PRIVATE KEY-----",
     rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:\s|\\[nr])+(?:Proc-Type|[A-Za-z0-9+/]{32})"),
    ("AWS access key", b"AKIA", rb"(?<![A-Za-z0-9+/_])AKIA(?![A-Z0-9]{9}EXAMPLE)[A-Z2-7]{16}(?![A-Za-z0-9+/_])"),
    ("AWS key", b"ws_secret_access_key",
     rb"aws_secret_access_key\W{1,8}(?!\S{33}EXAMPLEKEY)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"),
    ("AWS key", b"WS_SECRET_ACCESS_KEY",
     rb"AWS_SECRET_ACCESS_KEY\W{1,8}(?!\S{33}EXAMPLEKEY)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"),
    *(("GitHub token", b"gh%c_" % kind, rb"\bgh%c_[A-Za-z0-9]{36}\b" % kind) for kind in b"pousr"),
    ("GitHub token", b"github_pat_", rb"\bgithub_pat_[A-Za-z0-9_]{60,}"),
    ("GitLab token", b"glpat-", rb"\bglpat-[A-Za-z0-9_-]{20,}"),
    *(("Slack token", b"xox%c-" % kind, rb"\bxox%c-\d{6,}-[A-Za-z0-9-]{10,}" % kind) for kind in b"abeprs"),
    ("Slack webhook", b"hooks.slack.com/services/", rb"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/\w{16,}"),
    ("Stripe key", b"k_live_", rb"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    ("Google API key", b"AIza", rb"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    ("npm token", b"npm_", rb"\bnpm_[A-Za-z0-9]{36}\b"),
    ("npm token", b"_authToken=", rb"_authToken=[A-Za-z0-9_-]{20,}"),
    ("PyPI token", b"pypi-AgE", rb"\bpypi-AgE[A-Za-z0-9_-]{50,}"),
    ("Azure storage key", b"AccountKey=", rb"AccountKey=[A-Za-z0-9+/]{86}=="),
)  # fmt: skip
"""Kind of a secret, what each of it contains, and its form. The values that makers give as examples are none."""
_FORMS = tuple((kind, anchor, re.compile(form)) for kind, anchor, form in FORMS)


def _anchors() -> re2.Pattern[bytes]:
    """Compile one pattern for whatever a secret contains: RE2 searches for all of it in one pass."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    return re2.compile(b"|".join(re.escape(anchor) for _, anchor, _ in FORMS), options)


_ANCHORS = _anchors()
LONGEST_FORM = 4096
"""Bytes of one piece that the next one is read together with, so that nothing is missed between them."""
MOST_SECRETS = 20
"""Places of one kind of secret in one file that are told."""
SINGLE_EXECUTABLE = b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1"
"""What a Node.js program contains that has an application in it ("Single executable applications")."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """What is known of a regular file."""

    sha256: bytes
    machine: str = ""
    """The machine that it is a program for."""
    archive: str = ""
    """The format of an archive or of a file system in a file."""
    database: str = ""
    """The package manager whose records it holds."""
    place: int = -1
    """Where its content is kept, of a small file; -1 for none."""
    size: int = 0
    text: bool = False
    """Whether its beginning holds no zero byte."""
    secrets: tuple[tuple[int, str], ...] = ()
    """Line and kind of what has a known form of a secret."""


class Keeper:
    """Keeps the content of small files in a file of its own, so that memory does not grow with them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def keep(self, content: bytes) -> int:
        """Keep a content; the place to read it from."""
        place = self._file.seek(0, io.SEEK_END)
        self._file.write(content)
        return place

    def read(self, content: FileContent) -> bytes | None:
        """The content of a file; None where it was too large to be kept."""
        if content.place < 0:
            return None
        self._file.seek(content.place)
        return self._file.read(content.size)


def read_file(stream: IO[bytes] | None, size: int, keeper: Keeper, *, secrets: bool) -> FileContent:
    """Read a file once, from its beginning to its end, and find out what it is; with `secrets`, look for these too."""
    digest, head, tail, left, line = hashlib.sha256(), b"", b"", b"", 1
    found: dict[str, set[int]] = {}
    single = False
    while stream is not None and (chunk := stream.read(CHUNK)):
        digest.update(chunk)
        if len(head) < HEAD:
            head += chunk[: HEAD - len(head)]
        tail = (tail + chunk)[-TAIL:]
        piece = left + chunk
        single = single or (head[:4] == b"\x7fELF" and SINGLE_EXECUTABLE in piece)
        for place, kind in secrets_in(piece, line) if secrets else ():
            if len(places := found.setdefault(kind, set())) < MOST_SECRETS:
                places.add(place)
        left = piece[-LONGEST_FORM:]
        line += piece.count(b"\n") - left.count(b"\n") if secrets else 0
    return FileContent(
        sha256=digest.digest(),
        machine=machine_of(head),
        archive="Node.js application" if single else archive_in(head, tail, size),
        database=database_in(head),
        place=keeper.keep(head) if size <= HEAD else -1,
        size=len(head),
        text=b"\0" not in head,
        secrets=tuple(sorted((place, kind) for kind, places in found.items() for place in places)),
    )


def secrets_in(content: bytes, line: int = 1, most: int | None = MOST_SECRETS) -> Iterator[tuple[int, str]]:
    """Line and kind of everything that has a known form of a secret; `line` is the number of the first.

    Of each form at most `most` places; None: all of them.
    """
    if not _ANCHORS.search(content):
        return
    for kind, anchor, form in _FORMS:
        if anchor in content:
            place, counted = line, 0
            for match in islice(form.finditer(content), most):
                place += content.count(b"\n", counted, match.start())
                counted = match.start()
                yield place, kind


def machine_of(head: bytes) -> str:
    """The machine that a program is for; empty where the file is no ELF program or library."""
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
)
"""The beginning of an archive → its format."""
_STARTS = tuple(start for start, _ in HEADS)
MANIFEST = b"META-INF/MANIFEST.MF"
"""What a Java archive begins with (JAR File Specification)."""
EMBEDDED = b"MEI\014\013\012\013\016"
"""PyInstaller's cookie, near the end of a program with an archive in it."""


def archive_in(head: bytes, tail: bytes, size: int) -> str:
    """The format of an archive of files, also of one that is appended to a program; empty where it is none.

    A single compressed file is none: what counts is what it unpacks to.
    """
    forms = (
        (head[:4] == b"\x7fELF" and head[8:11] in (b"AI\x01", b"AI\x02"), "AppImage"),
        (EMBEDDED in tail, "PyInstaller"),
        (head.startswith(_STARTS), _started(head)),
        (head[1080:1082] == b"\x53\xef" and int.from_bytes(head[1048:1052], "little") < 7, "ext file system"),
        (head[32769:32774] == b"CD001", "iso9660"),
        (is_tar(head), "tar"),
        (is_zip(tail, size), "jar" if MANIFEST in head else "zip"),
    )
    return next((name for holds, name in forms if holds), "") or _compressed(head)


def _started(head: bytes) -> str:
    return next((name for start, name in HEADS if head.startswith(start)), "")


def is_tar(head: bytes) -> bool:
    """Whether a file begins with a tar header: `ustar`, or an older one by its checksum."""
    if len(head) < 512:
        return False
    block = head[:512]
    if block[257:262] == b"ustar":
        return True
    field = block[148:156].strip(b" \0")
    if not field or not block[0] or any(digit not in b"01234567" for digit in field):
        return False
    return int(field, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:])


def is_zip(tail: bytes, size: int) -> bool:
    """Whether a file ends as a zip archive with something in it, whatever it begins with."""
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        record = tail[at : at + 22]
        if len(record) == 22 and at + 22 + int.from_bytes(record[20:22], "little") <= len(tail):
            entries, length = int.from_bytes(record[10:12], "little"), int.from_bytes(record[12:16], "little")
            if entries and 46 <= length <= size:
                return True
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return False


def _compressed(head: bytes) -> str:
    """The format where a compressed file holds an archive: that of a Debian, Alpine or pacman package, too."""
    for name, start, unpack in (
        ("gzip", b"\x1f\x8b\x08", _gunzip),
        ("bzip2", b"BZh", _bunzip),
        ("xz", b"\xfd7zXZ\0", _unxz),
        ("zstd", b"\x28\xb5\x2f\xfd", _unzstd),
    ):
        if head.startswith(start):
            inside = unpack(head)
            if is_tar(inside) or inside.startswith((b"070701", b"070702", b"070707")):
                return f"{'tar' if is_tar(inside) else 'cpio'}, {name}"
    return ""


def _gunzip(head: bytes) -> bytes:
    unzip, inside = zlib.decompressobj(wbits=31), b""
    try:
        while head and len(inside) < INSIDE:  # a signature or a control part may be a member of its own
            inside += unzip.decompress(head, INSIDE - len(inside))
            head = unzip.unused_data
            if unzip.eof:
                unzip = zlib.decompressobj(wbits=31)
            elif not unzip.unconsumed_tail:
                break
            else:
                head = unzip.unconsumed_tail
    except zlib.error:
        pass
    return inside


def _bunzip(head: bytes) -> bytes:
    try:
        return bz2.BZ2Decompressor().decompress(head, INSIDE)
    except OSError:
        return b""


def _unxz(head: bytes) -> bytes:
    try:
        return lzma.LZMADecompressor(memlimit=256 * CHUNK).decompress(head, INSIDE)
    except lzma.LZMAError:
        return b""


def _unzstd(head: bytes) -> bytes:
    try:
        with zstandard.ZstdDecompressor(max_window_size=256 * CHUNK).stream_reader(io.BytesIO(head)) as stream:
            return stream.read(INSIDE)
    except zstandard.ZstdError:
        return b""


def database_in(head: bytes) -> str:
    """The package manager whose records a file holds; empty for none."""
    if head.startswith(b"Package: ") and b"\nVersion: " in head:
        stanza = head.partition(b"\n\n")[0]
        return "dpkg" if b"\nFilename: " not in stanza else ""
    if head.startswith(b"SQLite format 3\0"):
        if b"CREATE TABLE Packages" in head or b"CREATE TABLE 'Packages'" in head:
            return "rpm"
        return "nix" if b"CREATE TABLE ValidPaths" in head else ""
    if head.startswith(b"RpmP") or head[12:16] in (b"\x61\x15\x06\0", b"\0\x06\x15\x61"):
        return "rpm"
    if head.startswith((b"C:Q1", b"C:Q2")) and b"\nP:" in head and b"\nV:" in head:
        return "apk"
    return "pacman" if head.startswith(b"%NAME%\n") and b"%VERSION%" in head else ""
