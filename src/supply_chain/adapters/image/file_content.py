"""Detection of what an image's file is, by its content, not its name: program, archive, package database or secret."""

from __future__ import annotations

import bz2
import codecs
import hashlib
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Literal, Protocol

import re2
import zstandard

CHUNK = 1024 * 1024
HEAD = 64 * 1024
"""Bytes at a file's beginning that are examined; the content of a smaller file is stored."""
TAIL = 66 * 1024
"""Bytes at a file's end that are examined: a zip archive's directory ends with a comment of at most 64 KiB."""
INSIDE = 64 * 1024
"""Bytes of unpacked content that suffice to identify it."""
UNPACKED = 1024 * 1024
"""Maximum bytes to which a compressed file, or an entry of a zip archive, is unpacked."""
START = 2 * 1024 * 1024
"""Bytes at a compressed file's beginning that are unpacked: bzip2 gives no output before the end of a block of 900 kB.
"""
DEEPEST = 3
"""Maximum depth of nested compressed files that are unpacked."""
LARGEST_WINDOW = 256 * 1024 * 1024
"""Maximum bytes of memory for unpacking."""
BLOCK = 512
"""Bytes of a tar header."""
MOST_STREAMS = 64
"""Maximum consecutive compressed streams of a file that are unpacked."""
PIECE = 16 * 1024
"""Bytes of compressed input per step."""
LZMA_HEADER, LZMA_PROPERTIES = 13, 225
"""Bytes before the content of a `.lzma` file, and the exclusive maximum of its first byte."""
MOST_ZIP_ENTRIES = 1_000_000
"""Maximum zip entries of a file that are recorded; a file with more entries and an end record is an archive."""
LONGEST_ZIP_NAME = 2048
"""Maximum bytes of a zip entry's name that are read."""

MACHINES = {"amd64": "x86-64", "arm64": "AArch64"}
"""A platform's architecture (Go's name) → the machine that its programs are for."""
NAMES = {3: "i386", 8: "MIPS", 21: "PowerPC64", 22: "S390", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
"""ELF's `e_machine` → the machine (System V ABI, "ELF Header")."""
EXECUTABLES = (2, 3)
"""ELF's `e_type` of what can run: ET_EXEC and ET_DYN; a shared library is ET_DYN too."""
HEADER = 20
"""Bytes of an ELF header up to the end of `e_machine`."""


def _pattern(expression: bytes) -> re2.Pattern[bytes]:
    """Compile an expression with RE2, which searches in linear time.

    For several alternatives it is much faster than `bytes.find` for each.
    """
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    return re2.compile(expression, options)


def _any_of(*contents: bytes) -> re2.Pattern[bytes]:
    """Compile one pattern that matches any of the contents."""
    return _pattern(b"|".join(map(re.escape, contents)))


PEM = "private key"
_BREAK = rb"[ \t]*(?:[\r\n]|\\[nr])[ \t]*"
_HEADER = rb"[A-Za-z][A-Za-z-]*: (?:[^\r\n\\]|\\[^nr])*(?:%b)+" % _BREAK
_KEY = rb"(?:\s|\\[nr])+(?:Proc-Type|(?:%b)*[A-Za-z0-9+/](?:(?:%b)*[A-Za-z0-9+/]){31})" % (_HEADER, _BREAK)
"""Text after a private key's first line: headers (RFC 4880, 6.2; RFC 4716, 3.3), and base64 in lines."""
_AWS_KINDS, _AWS_NAMES = (b"AKIA", b"ASIA"), (b"aws_secret_access_key", b"AWS_SECRET_ACCESS_KEY")
FORMS = (
    (PEM, b"PRIVATE KEY",
     rb"(?:-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|---- BEGIN SSH2 ENCRYPTED[ ]PRIVATE KEY ----)" + _KEY),
    (PEM, b"PuTTY-User-Key-File-", rb"PuTTY-User-Key-File-\d+: [A-Za-z0-9@.-]+(?:%b)+Encryption:" % _BREAK),
    *(("AWS access key", kind,
       rb"%b(?![A-Z0-9]{9}EXAMPLE)(?:(?<![A-Z0-9+/]%b)|(?=[A-Z2-7]{16}(?![A-Za-z0-9+/])))[A-Z2-7]{16}" % (kind, kind))
      for kind in _AWS_KINDS),
    *(("AWS key", name[1:], name + rb"\W{1,8}(?!\S{33}EXAMPLEKEY)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])")
      for name in _AWS_NAMES),
    *(("GitHub token", b"gh%c_" % kind, rb"gh%c_[A-Za-z0-9]{36}" % kind) for kind in b"pousr"),
    ("GitHub token", b"github_pat_", rb"github_pat_[A-Za-z0-9_]{60,}"),
    ("GitLab token", b"glpat-", rb"glpat-[A-Za-z0-9_-]{20,}"),
    *(("Slack token", b"xox%c-" % kind, rb"xox%c-\d{6,}-[A-Za-z0-9-]{10,}" % kind) for kind in b"abeprs"),
    ("Slack webhook", b"hooks.slack.com/services/", rb"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/\w{16,}"),
    ("Stripe key", b"k_live_", rb"[rs]k_live_[A-Za-z0-9]{20,}"),
    ("Google API key", b"AIza", rb"AIza[A-Za-z0-9_-]{35}"),
    ("npm token", b"npm_", rb"npm_[A-Za-z0-9]{36}"),
    ("npm token", b"_authToken=", rb"_authToken=[A-Za-z0-9_-]{20,}"),
    ("PyPI token", b"pypi-AgE", rb"pypi-AgE[A-Za-z0-9_-]{50,}"),
    ("Azure storage key", b"AccountKey=", rb"AccountKey=[A-Za-z0-9+/]{86}=="),
)  # fmt: skip
"""Kind of a secret, bytes that each such secret contains, and its pattern. The vendors' example values do not match.

In records of SQLite or pickle, any byte may stand directly before and after a secret. In a text, an AWS key has to
begin or end at a word boundary, because otherwise it may be part of a longer word.
"""
BINARY_FORMS = (
    *(("AWS access key", kind,
       rb"%b(?![A-Z0-9]{9}EXAMPLE)(?:(?<![A-Za-z0-9+/]{24}%b)|(?=[A-Z2-7]{16}(?![A-Za-z0-9+/]{24})))[A-Z2-7]{16}"
       % (kind, kind))
      for kind in _AWS_KINDS),
    *(("AWS key", name[1:], name + rb"[\WXq]{0,8}(?!\S{33}EXAMPLEKEY)(?=[A-Za-z/+]*\d)[A-Za-z0-9/+]{40}")
      for name in _AWS_NAMES),
)  # fmt: skip
"""Patterns for content with zero bytes. There, an AWS key is rejected only in the middle of base64 or of a table of
words."""
_Form = tuple[str, bytes, "re.Pattern[bytes] | re2.Pattern[bytes]"]


def _compile(kind: str, anchor: bytes, form: bytes) -> _Form:
    """Compile a pattern with RE2, or with `re` if it has a lookahead, which RE2 does not support.

    A pattern with a lookahead matches only a bounded length.
    """
    return kind, anchor, re.compile(form) if b"(?!" in form else _pattern(form)


_FORMS, _BINARY_FORMS = (tuple(_compile(*form) for form in forms) for forms in (FORMS, BINARY_FORMS))
_ZEROS = (b"", b"\0", b"\0\0\0")
"""Bytes between ASCII letters: none, or as in UTF-16 and UTF-32."""
_ANCHORS = _any_of(
    *(zeros.join(anchor[at : at + 1] for at in range(len(anchor))) for _, anchor, _ in FORMS for zeros in _ZEROS)
)
_WIDE = _pattern(rb"[^\x00](?:\x00[^\x00]){15,}|[^\x00](?:\x00\x00\x00[^\x00]){15,}")
"""ASCII text in UTF-16 or UTF-32, of either byte order."""
LONGEST_FORM = 4096
"""Bytes of a piece that are searched again with the next piece, so that no match across the border is missed."""
MOST_SECRETS = 20
"""Maximum places of one kind of secret in one file that are reported."""
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins like the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark → encoding."""
_MARKS = tuple(MARKS)
SINGLE_EXECUTABLE = b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1"
"""Bytes in a Node.js program that contains an application ("Single executable applications")."""


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


class ContentStore:
    """Stores the content of small files in a temporary file, so that memory does not grow with them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def store(self, content: bytes) -> int:
        """Store a content and return the position to read it from."""
        place = self._file.seek(0, io.SEEK_END)
        self._file.write(content)
        return place

    def read(self, content: FileContent) -> bytes | None:
        """Return a file's content; None if it was too large to store."""
        if content.place < 0:
            return None
        self._file.seek(content.place)
        return self._file.read(content.size)


def read_file(stream: IO[bytes] | None, size: int, keeper: ContentStore, *, secrets: bool) -> FileContent:
    """Read a file once, from beginning to end, and return the facts about it; with `secrets`, search it for secrets."""
    digest, start, tail, left, line = hashlib.sha256(), b"", b"", b"", 1
    most = size_read = 0
    found, packed = _Places(), _Places()
    single, entries, deflated, inside = False, ZipEntries(), DeflateScanner(), list[bytes]()
    while stream is not None and (chunk := stream.read(CHUNK)):
        digest.update(chunk)
        most = most or (START if detect_compression(chunk) else HEAD)
        if len(start) < most:
            start += chunk[: most - len(start)]
        tail = (tail + chunk)[-TAIL:]
        piece, place = left + chunk, size_read - len(left)
        single = single or (start[:4] == b"\x7fELF" and SINGLE_EXECUTABLE in piece)
        entries.search(piece, place)
        size_read += len(chunk)
        left = piece[-LONGEST_FORM:]
        if secrets:
            found.add(find_secret_patterns(piece, line))
            for content in deflated.read(piece, place):
                packed.add(each for each in find_secret_patterns(content) if not (deflated.compiled and each[1] == PEM))
            line += piece.count(b"\n") - left.count(b"\n")
    head, form = start[:HEAD], _compressed_format(start, inside, cut=len(start) < size)
    for content in inside if secrets else ():
        packed.add(find_secret_patterns(content))
    return FileContent(
        sha256=digest.digest(),
        machine=detect_machine(head),
        archive="Node.js application" if single else detect_archive(head, tail, size, entries) or form,
        database=detect_database(head),
        place=keeper.store(head) if size <= HEAD else -1,
        size=len(head),
        text=b"\0" not in head or head.startswith(_MARKS) or is_wide(head) or _is_utf8(head, cut=size > HEAD),
        secrets=found.sorted(),
        packed=packed.sorted(),
    )


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


def find_secret_patterns(content: bytes, line: int = 1, most: int | None = MOST_SECRETS) -> Iterator[tuple[int, str]]:
    """Yield line and kind of everything that matches a pattern of a secret; `line` is the number of the first line.

    At most `most` places for each pattern; all if None. Also searches ASCII in UTF-16 and UTF-32.
    """
    if not _ANCHORS.search(content):
        return
    yield from _find_secrets(content, line, most, _FORMS)
    if b"\0" in content:
        yield from _find_secrets(content, line, most, _BINARY_FORMS)
        counted = 0
        for match in _WIDE.finditer(content):
            line += content.count(b"\n", counted, match.start())
            counted = match.start()
            yield from find_secret_patterns(match.group().replace(b"\0", b"") + b"\0", line, most)


def _find_secrets(content: bytes, line: int, most: int | None, forms: Iterable[_Form]) -> Iterator[tuple[int, str]]:
    for kind, anchor, form in forms:
        if anchor in content:
            place, counted = line, 0
            for match in islice(form.finditer(content), most):
                place += content.count(b"\n", counted, match.start())
                counted = match.start()
                yield place, kind


def is_wide(content: bytes) -> bool:
    """Return whether most of the content is ASCII in UTF-16 or UTF-32, with or without a byte order mark."""
    few = 3 * content.count(b"\0") < len(content)
    return not few and 2 * sum(len(each.group()) for each in _WIDE.finditer(content)) > len(content)


def _is_utf8(content: bytes, *, cut: bool) -> bool:
    """Return whether a content is UTF-8, zero bytes included; with `cut`, its last character may be incomplete."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, final=not cut)
    except UnicodeDecodeError:
        return False
    return True


def decode_texts(content: bytes) -> tuple[str, ...]:
    """Return every text that a file can be decoded to; empty if it is binary (zero bytes, but not UTF-16 or UTF-32).

    A byte order mark proves nothing, so the content is also decoded without it. UTF-16 and UTF-32 without a byte order
    mark are decoded by removing the zero bytes.
    """
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in content and not encoding and not is_wide(content):
            return ()
        text = content.decode("latin-1")
    marked = (content.decode(encoding, "replace"),) if encoding else ()
    return tuple(dict.fromkeys((*marked, text, text.replace("\0", ""))))


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
)
"""Beginning of an archive → format."""
_STARTS = tuple(start for start, _ in HEADS)
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
        return "jar" if MANIFEST in head and entries.java else "zip"
    return ""


def _format_by_start(head: bytes) -> str:
    """Return the format of an archive by its beginning; empty if none."""
    forms = (
        (head[:4] == b"\x7fELF" and head[8:11] in (b"AI\x01", b"AI\x02"), "AppImage"),
        (head.startswith(_STARTS), next((name for start, name in HEADS if head.startswith(start)), "")),
        (head[1080:1082] == b"\x53\xef" and int.from_bytes(head[1048:1052], "little") < 7, "ext file system"),
        (head[32769:32774] == b"CD001", "iso9660"),
        (is_tar(head), "tar"),
    )
    return next((name for holds, name in forms if holds), "")


def is_tar(head: bytes) -> bool:
    """Return whether a file begins with a tar header: `ustar`, or an older one with a valid checksum."""
    if len(head) < BLOCK:
        return False
    block = head[:BLOCK]
    if block[257:262] == b"ustar":
        return True
    field = block[148:156].strip(b" \0")
    if not field or not block[0] or any(digit not in b"01234567" for digit in field):
        return False
    return int(field, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:])


ZIP_ENTRY = b"PK\x01\x02"
"""Signature of an entry in a zip archive's central directory."""
_ZIP_ENTRY = _any_of(ZIP_ENTRY)


class ZipEntries:
    """Entries of the central directories of zip archives (APPNOTE.TXT, 4.3.12), collected while a file is read.

    The counts and comments in a directory's end record are ignored, because readers accept an archive whatever they
    are.
    """

    def __init__(self) -> None:
        self._places: set[int] = set()
        self._ends: set[int] = set()
        self._others = self._many = False

    @property
    def java(self) -> bool:
        """Whether all entries could be read and each is what scanners judge in a Java archive."""
        return bool(self._places) and not self._others and not self._many

    def search(self, piece: bytes, place: int) -> None:
        """Find the entries in a piece of the file that begins at `place`; the next piece overlaps this one."""
        at = piece.find(ZIP_ENTRY) if _ZIP_ENTRY.search(piece) else -1
        while at >= 0 and len(self._places) < MOST_ZIP_ENTRIES:
            self._places.add(place + at)
            name, extra, comment = (int.from_bytes(piece[at + n : at + n + 2], "little") for n in (28, 30, 32))
            if at + 46 + min(name, LONGEST_ZIP_NAME) <= len(piece):
                self._ends.add(place + at + 46 + name + extra + comment)
                self._others = self._others or name > LONGEST_ZIP_NAME or _is_foreign(piece[at + 46 : at + 46 + name])
            at = piece.find(ZIP_ENTRY, at + 4)
        self._many = self._many or at >= 0

    def end_in(self, tail: bytes, size: int) -> bool:
        """Return whether a file ends with a zip archive's end record and has the directory that belongs to it.

        The directory is where the record says, or directly before the record. `tail` is the end of the file, `size` its
        size. A zip64 archive has another record directly before the end record (4.3.15).
        """
        at = tail.rfind(b"PK\x05\x06")
        while at >= 0:
            place, length = size - len(tail) + at, int.from_bytes(tail[at + 12 : at + 16], "little")
            offset = int.from_bytes(tail[at + 16 : at + 20], "little")
            if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07") or place in self._ends:
                return True
            if self._many or {place - length, offset} & self._places:
                return True
            at = tail.rfind(b"PK\x05\x06", 0, at)
        return False


_FOREIGN = _pattern(
    rb"(?i)(\.(7z|apk|asar|cab|cpio|crate|deb|egg|gem|iso|nupkg|phar|pyc?|pyz|rar|rpm|squashfs|t[bglx]z|tbz2|tzst|whl|zip)"
    rb"|\.tar(\.(bz2|gz|lzma|xz|zst))?|(^|/)package\.json)$|\.(dist|egg)-info/|(^|/)node_modules/"
)
"""Names of Python's and npm's packages, and of archives that are not Java's."""


def _is_foreign(name: bytes) -> bool:
    return bool(_FOREIGN.search(name))


def _compressed_format(start: bytes, unpacked: list[bytes], *, cut: bool, depth: int = DEEPEST) -> str:
    """Return the format of the archive in a compressed file, such as a Debian, Alpine or pacman package.

    A single compressed file is not an archive. Its unpacked content decides, and is added to `unpacked`. `start` is the
    complete file or its first `START` bytes; with `cut`, the file continues after them. The format is `unknown` if the
    unpacked start is too short to decide, or has too many nested compressed files.
    """
    name = detect_compression(start)
    if not name:
        return ""
    inside, more = _unpack_start(start, name, UNPACKED, cut=cut)
    if detect_compression(inside):
        inside, more = _unpack_start(start, name, START, cut=cut)
    unpacked.append(inside)
    form = _format_by_start(inside) or ("zip" if inside.startswith(b"PK\x03\x04") else "")
    if not form and detect_compression(inside):
        form = _compressed_format(inside, unpacked, cut=more, depth=depth - 1) if depth else "unknown"
    if not form and more and len(inside) < INSIDE:
        form = "unknown"
    return f"{form}, {name}" if form else ""


COMPRESSED = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((bytes((0x50 + n,)) + b"\x2a\x4d\x18", "zstd") for n in range(16)),  # a skippable frame (RFC 8878, 3.1.2)
)
"""Beginning of a compressed file → compression."""
_COMPRESSED = tuple(start for start, _ in COMPRESSED)


def detect_compression(start: bytes) -> str:
    """Return the compression of a file that begins with `start`; empty if it is not compressed."""
    if start.startswith(_COMPRESSED):
        return next(name for magic, name in COMPRESSED if start.startswith(magic))
    return "lzma" if _is_lzma(start) else ""


def _is_lzma(start: bytes) -> bool:
    """Return whether a file begins like a `.lzma`, which has no magic number, by the rules of `xz` and liblzma."""
    if len(start) <= LZMA_HEADER or start[LZMA_HEADER] or start[0] >= LZMA_PROPERTIES:
        return False
    window, size = int.from_bytes(start[1:5], "little"), int.from_bytes(start[5:13], "little")
    few_bits = window.bit_count() == 1 or (window.bit_count() == 2 and window & window << 1)
    return bool(few_bits or window == 2**32 - 1) and (size < 2**38 or size == 2**64 - 1)


def _unpack_start(packed: bytes, name: str, most: int, *, cut: bool) -> tuple[bytes, bool]:
    """Return the beginning of the unpacked content, and whether more may follow: from the rest, or with more memory."""
    inside = bytearray()
    try:
        for part in _UNPACK[name](packed):
            inside += part
            if len(inside) >= most:
                return bytes(inside), True
    except _TooManyStreams:
        return bytes(inside), True
    except (zlib.error, OSError, lzma.LZMAError, zstandard.ZstdError) as error:
        return bytes(inside), "memory" in str(error).lower()
    return bytes(inside), cut


DEFLATED = _pattern(
    rb"PK\x03\x04[\x00-\xff]{4}\x08\x00[\x00-\xff]{20}"
    rb"|zTXt[^\x00]{1,79}\x00\x00|iTXt[^\x00]{1,79}\x00\x01\x00[^\x00]{0,80}\x00[^\x00]{0,400}\x00"
)
"""Header before compressed content: a zip entry (APPNOTE.TXT, 4.3.7), or a text in a PNG (11.3.3)."""


class DeflateScanner:
    """Unpacked content of zip entries and of texts in PNG images, found while a file is read."""

    compiled = False
    """Whether the content yielded last is a Java class: libraries publish private keys for tests in their classes."""

    def __init__(self) -> None:
        self._place = 0
        self._unpacker: zlib._Decompress | None = None
        self._inside = bytearray()

    def read(self, piece: bytes, place: int) -> Iterator[bytes]:
        """Yield the unpacked content in a piece of the file that begins at `place`; the next piece overlaps this one.

        Content that continues in the next piece is yielded again then, together with what was unpacked before.
        """
        end = place + len(piece)
        while self._place < end and (self._unpacker or self._begin(piece, place)):
            while self._unpacker and self._place < end:
                at = self._place - place
                self._unpack(self._unpacker, piece[at : at + PIECE])
            yield bytes(self._inside)

    def _begin(self, piece: bytes, place: int) -> bool:
        match = DEFLATED.search(piece, max(0, self._place - place))
        if not match:
            return False
        begun, at = match.group(), match.end()
        zipped = begun.startswith(b"PK")
        name, extra = (int.from_bytes(begun[n : n + 2], "little") if zipped else 0 for n in (26, 28))
        self.compiled = piece[at : at + name].endswith(b".class")
        self._place = place + at + name + extra
        self._unpacker, self._inside = zlib.decompressobj(wbits=-15 if zipped else 15), bytearray()
        return True

    def _unpack(self, unpacker: zlib._Decompress, part: bytes) -> None:
        try:
            self._inside += unpacker.decompress(part, UNPACKED - len(self._inside))
        except zlib.error:
            self._unpacker = None
            return
        self._place += len(part) - len(unpacker.unused_data) - len(unpacker.unconsumed_tail)
        if unpacker.eof or len(self._inside) >= UNPACKED:
            self._unpacker = None


class _Decompressor(Protocol):
    """The interface that the decompressors of the standard library share."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _TooManyStreams(Exception):
    """The file has more compressed streams than are unpacked."""


_PADDING = re.compile(rb"\0*")


def _streams(make: Callable[[], _Decompressor]) -> Callable[[bytes], Iterator[bytes]]:
    """Return a function that unpacks consecutive streams.

    A package may have a signature or control part as its own stream, or an empty first stream.
    """

    def unpack(packed: bytes) -> Iterator[bytes]:
        at = 0
        for _ in range(MOST_STREAMS):
            unpacker = make()
            while not unpacker.eof:
                piece = packed[at : at + PIECE]
                part = unpacker.decompress(piece, BLOCK)
                at += len(piece) - len(unpacker.unused_data) - len(getattr(unpacker, "unconsumed_tail", b""))
                yield part
                if not part and not piece and not unpacker.eof:
                    return
            padded = _PADDING.match(packed, at)
            at = padded.end() if padded else at
            if at == len(packed):
                return
        raise _TooManyStreams

    return unpack


def _unzstd(packed: bytes) -> Iterator[bytes]:
    """Yield the unpacked content in blocks."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    with unpacker.stream_reader(io.BytesIO(packed), read_across_frames=True) as stream:
        while part := stream.read(BLOCK):
            yield part


_UNPACK: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _streams(lambda: zlib.decompressobj(wbits=31)),
    "bzip2": _streams(bz2.BZ2Decompressor),
    "xz": _streams(lambda: lzma.LZMADecompressor(memlimit=LARGEST_WINDOW)),
    "lzma": _streams(lambda: lzma.LZMADecompressor(memlimit=LARGEST_WINDOW)),
    "zstd": _unzstd,
}


def detect_database(head: bytes) -> str:
    """Return the package manager whose records a file holds; empty if none."""
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
