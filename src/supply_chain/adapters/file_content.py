"""What a file of an image is, by its content and not by its name: program, archive, package database, or a secret."""

from __future__ import annotations

import bz2
import codecs
import hashlib
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Literal, Protocol

import re2
import zstandard

CHUNK = 1024 * 1024
HEAD = 64 * 1024
"""Bytes of a file's beginning that are looked at; a smaller file is kept whole."""
TAIL = 66 * 1024
"""Bytes of a file's end that are looked at: a zip archive's directory ends with a comment of at most 64 KiB."""
INSIDE = 64 * 1024
"""Bytes that a compressed file is unpacked to, to see what is in it."""
START = 2 * 1024 * 1024
"""Bytes of a compressed file's beginning that are unpacked: bzip2 gives nothing before a block's end, of 900 kB."""
DEEPEST = 3
"""Compressed files within each other that are unpacked."""
LARGEST_WINDOW = 256 * 1024 * 1024
"""Bytes of memory that unpacking may take."""
BLOCK = 512
"""Bytes of a tar header."""
MOST_STREAMS = 64
"""Compressed streams, one after the other in a file, that are unpacked."""
PIECE = 16 * 1024
"""Bytes of a compressed file that are unpacked at once."""
LZMA_HEADER, LZMA_PROPERTIES = 13, 225
"""Bytes before the content of a `.lzma`, and what its first byte is below."""
MOST_ZIP_ENTRIES = 1_000_000
"""Entries of zip archives in one file that are looked at; what holds more of them and an end is an archive."""
LONGEST_ZIP_NAME = 2048
"""Bytes of an entry's name in a zip archive that are read."""

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


def _any_of(*contents: bytes) -> re2.Pattern[bytes]:
    """Compile one pattern for all of these: RE2 searches for them in one pass, and far faster than `bytes.find`."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    return re2.compile(b"|".join(map(re.escape, contents)), options)


_ANCHORS = _any_of(*(anchor for _, anchor, _ in FORMS))
LONGEST_FORM = 4096
"""Bytes of one piece that the next one is read together with, so that nothing is missed between them."""
MOST_SECRETS = 20
"""Places of one kind of secret in one file that are told."""
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16's does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The byte order mark that a text begins with → the encoding that it speaks of."""
_MARKS = tuple(MARKS)
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
    """Whether its beginning holds no zero byte, or is a byte order mark."""
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
    digest, start, tail, left, line = hashlib.sha256(), b"", b"", b"", 1
    most = size_read = 0
    found: dict[str, set[int]] = {}
    single, entries = False, ZipEntries()
    while stream is not None and (chunk := stream.read(CHUNK)):
        digest.update(chunk)
        most = most or (START if compression_of(chunk) else HEAD)
        if len(start) < most:
            start += chunk[: most - len(start)]
        tail = (tail + chunk)[-TAIL:]
        piece = left + chunk
        single = single or (start[:4] == b"\x7fELF" and SINGLE_EXECUTABLE in piece)
        entries.search(piece, size_read - len(left))
        size_read += len(chunk)
        for place, kind in _secrets_in_text(piece, start, line) if secrets else ():
            if len(places := found.setdefault(kind, set())) < MOST_SECRETS:
                places.add(place)
        left = piece[-LONGEST_FORM:]
        line += piece.count(b"\n") - left.count(b"\n") if secrets else 0
    head = start[:HEAD]
    return FileContent(
        sha256=digest.digest(),
        machine=machine_of(head),
        archive="Node.js application" if single else archive_in(start, tail, size, entries),
        database=database_in(head),
        place=keeper.keep(head) if size <= HEAD else -1,
        size=len(head),
        text=b"\0" not in head or head.startswith(_MARKS),
        secrets=tuple(sorted((place, kind) for kind, places in found.items() for place in places)),
    )


def _secrets_in_text(piece: bytes, start: bytes, line: int) -> Iterator[tuple[int, str]]:
    """Search a piece of a file that starts so; ASCII in UTF-16 and UTF-32 is ASCII with zero bytes in between."""
    yield from secrets_in(piece, line)
    if start.startswith(_MARKS):
        yield from secrets_in(piece.replace(b"\0", b""), line)


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


def readings(content: bytes) -> tuple[str, ...]:
    """Every text that a file can be read as; none where a zero byte says that it is no text.

    A byte order mark proves nothing, so that what follows one is read without it too.
    """
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in content and not encoding:
            return ()
        text = content.decode("latin-1")
    marked = (content.decode(encoding, "replace"),) if encoding else ()
    return tuple(dict.fromkeys((*marked, text, text.replace("\0", ""))))


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


def archive_in(start: bytes, tail: bytes, size: int, entries: ZipEntries) -> str:
    """The format of an archive of files, also of one that is appended to a program; empty where it is none.

    `start` is the whole file, or its first `START` bytes where it is compressed, and else `HEAD`. A single compressed
    file is no archive: what counts is what it unpacks to.
    """
    if EMBEDDED in tail:
        return "PyInstaller"
    if form := _begun(start):
        return form
    if entries.end_in(tail, size):
        return "jar" if MANIFEST in start[:HEAD] and entries.java else "zip"
    return _compressed(start, cut=len(start) < size)


def _begun(head: bytes) -> str:
    """The format of an archive by its beginning; empty for none."""
    forms = (
        (head[:4] == b"\x7fELF" and head[8:11] in (b"AI\x01", b"AI\x02"), "AppImage"),
        (head.startswith(_STARTS), next((name for start, name in HEADS if head.startswith(start)), "")),
        (head[1080:1082] == b"\x53\xef" and int.from_bytes(head[1048:1052], "little") < 7, "ext file system"),
        (head[32769:32774] == b"CD001", "iso9660"),
        (is_tar(head), "tar"),
    )
    return next((name for holds, name in forms if holds), "")


def is_tar(head: bytes) -> bool:
    """Whether a file begins with a tar header: `ustar`, or an older one by its checksum."""
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
"""What an entry in a zip archive's directory begins with."""
_ZIP_ENTRY = _any_of(ZIP_ENTRY)


class ZipEntries:
    """The entries in the central directories of zip archives (APPNOTE.TXT, 4.3.12), found as a file is read.

    What a directory's end says of counts and comments is no matter: readers take it for one all the same.
    """

    def __init__(self) -> None:
        self._places: set[int] = set()
        self._ends: set[int] = set()
        self._others = self._many = False

    @property
    def java(self) -> bool:
        """Whether all entries could be read, and none is of Python."""
        return bool(self._places) and not self._others and not self._many

    def search(self, piece: bytes, place: int) -> None:
        """Find the entries in a piece of the file, which begins there; the next piece overlaps it."""
        at = piece.find(ZIP_ENTRY) if _ZIP_ENTRY.search(piece) else -1
        while at >= 0 and len(self._places) < MOST_ZIP_ENTRIES:
            self._places.add(place + at)
            name, extra, comment = (int.from_bytes(piece[at + n : at + n + 2], "little") for n in (28, 30, 32))
            if at + 46 + min(name, LONGEST_ZIP_NAME) <= len(piece):
                self._ends.add(place + at + 46 + name + extra + comment)
                self._others = self._others or name > LONGEST_ZIP_NAME or _is_python(piece[at + 46 : at + 46 + name])
            at = piece.find(ZIP_ENTRY, at + 4)
        self._many = self._many or at >= 0

    def end_in(self, tail: bytes, size: int) -> bool:
        """Whether a file of this size and end has the end of a directory, and the directory where that says or before.

        A zip64 archive says so directly before (4.3.15).
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


def _is_python(name: bytes) -> bool:
    return name.endswith((b".py", b".pyc")) or b".dist-info/" in name or b".egg-info/" in name


def _compressed(start: bytes, *, cut: bool, depth: int = DEEPEST) -> str:
    """The format where a compressed file holds an archive: that of a Debian, Alpine or pacman package, too.

    With `cut` the file goes on. It may hold an archive where little comes of its start, or only more compressed files.
    """
    name = compression_of(start)
    if not name:
        return ""
    inside, more = _unpacked(start, name, INSIDE, cut=cut)
    if compression_of(inside):
        inside, more = _unpacked(start, name, START, cut=cut)
    form = _begun(inside) or ("zip" if inside.startswith(b"PK\x03\x04") else "")
    if not form and compression_of(inside):
        form = _compressed(inside, cut=more, depth=depth - 1) if depth else "unknown"
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
"""The beginning of a compressed file → how it is compressed."""
_COMPRESSED = tuple(start for start, _ in COMPRESSED)


def compression_of(start: bytes) -> str:
    """How a file that begins so is compressed; empty for not."""
    if start.startswith(_COMPRESSED):
        return next(name for magic, name in COMPRESSED if start.startswith(magic))
    return "lzma" if _is_lzma(start) else ""


def _is_lzma(start: bytes) -> bool:
    """Whether the beginning is that of a `.lzma`, which has no magic number, as `xz` and liblzma tell it."""
    if len(start) <= LZMA_HEADER or start[LZMA_HEADER] or start[0] >= LZMA_PROPERTIES:
        return False
    window, size = int.from_bytes(start[1:5], "little"), int.from_bytes(start[5:13], "little")
    few_bits = window.bit_count() == 1 or (window.bit_count() == 2 and window & window << 1)
    return bool(few_bits or window == 2**32 - 1) and (size < 2**38 or size == 2**64 - 1)


def _unpacked(packed: bytes, name: str, most: int, *, cut: bool) -> tuple[bytes, bool]:
    """The beginning of what is compressed, and whether more may come of it: of the rest, or with more memory."""
    inside = bytearray()
    try:
        for part in _UNPACK[name](packed):
            inside += part
            if len(inside) >= most:
                return bytes(inside), True
    except _ManyStreams:
        return bytes(inside), True
    except (zlib.error, OSError, lzma.LZMAError, zstandard.ZstdError) as error:
        return bytes(inside), "memory" in str(error).lower()
    return bytes(inside), cut


class _Decompressor(Protocol):
    """What the standard library's have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _ManyStreams(Exception):
    """A file holds more compressed streams than are unpacked."""


_PADDING = re.compile(rb"\0*")


def _streams(make: Callable[[], _Decompressor]) -> Callable[[bytes], Iterator[bytes]]:
    """Unpack one stream after the other: a signature or a control part may be one of its own, or an empty one first."""

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
        raise _ManyStreams

    return unpack


def _unzstd(packed: bytes) -> Iterator[bytes]:
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
