"""Archives, file systems and compressed content at any place in a file, such as behind a program."""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Callable, Iterator

import zstandard

from supply_chain.adapters.image import lz4
from supply_chain.adapters.image.compression import (
    BLOCK,
    COMPRESSED,
    LARGEST_WINDOW,
    detect_compression,
    unpack_start,
)
from supply_chain.adapters.image.patterns import compile_linear_pattern
from supply_chain.adapters.image.zip_entries import ZipEntries

START = 2 * 1024 * 1024
"""Bytes at the beginning of compressed content that are unpacked: bzip2 gives no output before the end of a block of
900 kB."""
PREVIEW = 512
"""Bytes of compressed content that are unpacked first, because most that begins like it is none."""
BEFORE, LONGEST_ANCHOR = 512, 24
"""Maximum bytes before the anchor of a form that belong to it, and of an anchor."""
MOST_WORK, WORK = 10_000, 100
"""Maximum beginnings of compressed content in a file that are read, and how many of them one counts for that is
unpacked."""
ALONE = b"\xff" * 8
"""The unknown size in the header of a `.lzma` file."""

_OLD_TAR = rb"(?:[ 0-7]{5}[0-7][0-7 \0][ \0]){3}"
"""Mode, user and group in the header of a tar of before POSIX, which has no identifier."""
_DICTIONARY = rb"\0\0(?:[\x01\x02\x04\x08\x10\x20\x40\x80\x03\x06\x0c\x18\x30\x60\xc0]\0|\0[\x01\x02\x04\x08\x03\x06])"
_LZMA = rb"\x5d%b|[\0-\xe0]%b\xff{8}\0" % (_DICTIONARY, _DICTIONARY)
"""Beginning of a `.lzma`, which has no identifier: the usual parameters, or others and an unknown size."""
LZIP = b"LZIP\x01"

_FORMS: tuple[tuple[str, int, bytes, bytes], ...] = (
    ("tar", 257, b"ustar", rb"(?s).{257}ustar[\0 ]"),
    ("deb", 0, b"!<arch>\ndebian-binary", rb"!<arch>\ndebian-binary[ /].{44}`\n"),
    ("rpm", 0, b"\xed\xab\xee\xdb", rb"(?s)\xed\xab\xee\xdb.{92}\x8e\xad\xe8\x01"),
    ("squashfs", 0, b"hsqs", rb"(?s)hsqs.{18}[\x0c-\x14]\0.{4}\x04\0\0\0"),
    ("cpio", 0, b"070701", rb"070701[0-9A-Fa-f]{104}"),
    ("cpio", 0, b"070702", rb"070702[0-9A-Fa-f]{104}"),
    ("cpio", 0, b"070707", rb"070707[0-7]{70}"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c", rb"(?s)7z\xbc\xaf\x27\x1c\0.{25}"),
    ("rar", 0, b"Rar!\x1a\x07", rb"(?s)Rar!\x1a\x07(\0..\x73|\x01\0....[\x03-\x7f][\x01\x04])"),
    ("cabinet", 0, b"MSCF\0\0\0\0", rb"(?s)MSCF\0{4}.{4}\0{4}.{4}\0{4}\x03\x01"),
    ("ext file system", 56, b"\x53\xef",
     rb"(?s).{24}[\0-\x06]\0\0\0.{28}\x53\xef[\0-\x07]\0[\x01-\x03]\0.{10}[\0-\x04]\0\0\0"
     rb"\x01\0\0\0.{4}\x0b\0\0\0(\x80\0|\0[\x01-\x10])"),
    ("xfs", 0, b"XFSB\0", rb"XFSB\0(\0[\x02\x04\x08\x10\x20\x40\x80]\0|\x01\0\0)"),
    ("btrfs", 64, b"_BHRfS_M", rb"(?s).{48}\0\0\x01\0\0\0\0\0.{8}_BHRfS_M"),
    ("iso9660", 0, b"\x01CD001\x01", rb"(?s)\x01CD001\x01\0[ -~\0]{64}\0{8}"),
    ("erofs", 0, b"\xe2\xe1\xf5\xe0", rb"(?s)\xe2\xe1\xf5\xe0.{8}[\x09-\x10]\0"),
    ("cramfs", 0, b"\x45\x3d\xcd\x28", rb"(?s)\x45\x3d\xcd\x28.{12}Compressed ROMFS"),
    ("xar", 0, b"xar!\0", rb"(?s)xar!\0\x1c\0\x01\0{4}.{4}\0{4}.{4}\0\0\0[\0-\x04]"),
    ("wim", 0, b"MSWIM\0\0\0", rb"MSWIM\0\0\0\xd0\0\0\0"),
    ("disk image", 0, b"QFI\xfb", rb"(?s)QFI\xfb\0\0\0[\x02\x03].{12}\0\0\0[\x09-\x15]"),
    ("disk image", 0, b"KDMV", rb"(?s)KDMV[\x01-\x03]\0\0\0..[\x01-\x03]\0.{6}\0\0"),
    ("asar", 16, b'{"files":{', rb'(?s)\x04\0\0\0.{12}\{"files":\{'),
    ("romfs", 0, b"-rom1fs-", rb"-rom1fs-"),
    ("lz4", 0, lz4.FRAME, re.escape(lz4.FRAME)),
    ("lz4", 0, lz4.LEGACY, re.escape(lz4.LEGACY)),
    ("tar", 100, b"", rb"(?s)[^\0].{99}%b[ 0-7\0]{32}" % _OLD_TAR),
)  # fmt: skip
"""Format, bytes before its anchor, the anchor, and the pattern of its header. Programs that read a format contain the
anchor alone. An empty anchor is `_OLD_TAR`."""
_HEADERS = tuple((name, before, anchor, re.compile(pattern)) for name, before, anchor, pattern in _FORMS)
_STREAMS = tuple(magic for magic, _ in COMPRESSED if magic[1:4] != b"\x2a\x4d\x18")
ZIP_LZMA = b"PK\x03\x04"
_LITERALS = frozenset(anchor for _, _, anchor, _ in _HEADERS)
_ANCHORS = compile_linear_pattern(
    b"|".join((*map(re.escape, (*filter(None, _LITERALS), *_STREAMS, ZIP_LZMA, LZIP)), _OLD_TAR, _LZMA))
)


def has_tar_checksum(block: bytes) -> bool:
    """Return whether the checksum in a tar header of `BLOCK` bytes is right."""
    field = block[148:156].strip(b" \0")
    if not field or not block[0] or any(digit not in b"01234567" for digit in field):
        return False
    return int(field, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:BLOCK])


def _is_7z(header: bytes) -> bool:
    return zlib.crc32(header[12:32]) == int.from_bytes(header[8:12], "little")


def _is_romfs(start: bytes) -> bool:
    """Return whether the checksum of a romfs is right (Linux, Documentation/filesystems/romfs.rst)."""
    size = min(BLOCK, int.from_bytes(start[8:12], "big"), len(start)) & ~3
    return size > 16 and not sum(int.from_bytes(start[at : at + 4], "big") for at in range(0, size, 4)) & 2**32 - 1


_CONFIRM: dict[str, Callable[[bytes], bool]] = {
    "tar": has_tar_checksum,
    "7z": _is_7z,
    "romfs": _is_romfs,
    "lz4": lz4.is_lz4,
}
"""Format → whether its first `BLOCK` bytes have the right checksum."""


LARGEST_BLOCK = 128 * 1024
"""Maximum bytes of a zstd block (RFC 8878, 3.1.1.2.4)."""


def _is_zstd(packed: bytes) -> bool:
    """Return whether a zstd frame's header and the header of its first block are possible (RFC 8878, 3.1.1).

    Programs that read zstd contain its magic number between instructions.
    """
    try:
        begin = zstandard.frame_header_size(packed)
    except zstandard.ZstdError:
        return False
    block = int.from_bytes(packed[begin : begin + 3], "little")
    return not packed[4] & 8 and block >> 1 & 3 != 3 and block >> 3 <= LARGEST_BLOCK


def _is_lzma(packed: bytes) -> bool:
    """Return whether what begins like a `.lzma` can be unpacked, as far as `packed` shows.

    Tables of numbers begin alike.
    """
    if packed[5:13] == bytes(8):
        return False
    try:
        return bool(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=LARGEST_WINDOW).decompress(packed, BLOCK))
    except lzma.LZMAError:
        return False


def _convert_lzip(packed: bytes) -> bytes:
    """Return lzip as a `.lzma` of unknown size with at least its dictionary (lzip's manual, "File format")."""
    bits = packed[5] & 31 if len(packed) > 6 else 0
    return b"\x5d" + (1 << bits).to_bytes(4, "little") + ALONE + packed[6:] if 12 <= bits <= 29 else b""


def _find_anchors(content: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield where each anchor begins, and the anchor. Two may overlap."""
    while match := _ANCHORS.search(content, at, end):
        yield match.start(), match.group()
        at = match.start() + 1


def find_archive(content: bytes) -> str:
    """Return the format of the first archive or file system at any place in a content; empty if none.

    Compressed content in it is not unpacked.
    """
    for at, anchor in _find_anchors(content, 0, len(content)):
        if form := _identify_header(content, at, anchor):
            return form
    entries = ZipEntries()
    entries.search(content, 0)
    return "zip" if entries.hidden else ""


def _identify_header(content: bytes, at: int, matched: bytes) -> str:
    """Return the format of the archive whose anchor matched at a place; empty if none."""
    identifier = matched if matched in _LITERALS else b""
    for name, before, anchor, pattern in _HEADERS:
        begin = at - before
        if identifier == anchor and begin >= 0 and pattern.match(content, begin):
            confirm = _CONFIRM.get(name)
            if not confirm or confirm(content[begin : begin + BLOCK]):
                return name
    return ""


class EmbeddedContent:
    """Archives and compressed content in a file, found while it is read.

    A zip archive is found by its directory (`ZipEntries`).
    """

    form = ""
    """Format of the first archive or file system; empty if none, `unknown` if there is too much compressed content."""

    def __init__(self, identify: Callable[[bytes, list[bytes]], str]) -> None:
        """`identify` returns the archive's format in compressed content, and adds what it unpacks to a list."""
        self._identify = identify
        self._window, self._place, self._at, self._work = b"", 0, 0, 0

    def read(self, chunk: bytes, *, end: bool = False) -> Iterator[bytes]:
        """Take the next bytes of the file, and yield the beginning of each compressed content that is complete."""
        self._window += chunk
        most = len(self._window) - (0 if end else START)
        if most <= self._at:
            return
        for at, anchor in _find_anchors(self._window, self._at, min(len(self._window), most + LONGEST_ANCHOR)):
            if at >= most:
                break
            self.form = self.form or _identify_header(self._window, at, anchor)
            yield from self._stream(at)
        drop = max(0, most - BEFORE)
        self._window, self._place, self._at = self._window[drop:], self._place + drop, most - drop

    def _stream(self, at: int) -> Iterator[bytes]:
        """Unpack the compressed content at a place in the window, except at the file's beginning."""
        packed = self._packed(at, PREVIEW) if self._work < MOST_WORK else b""
        name = detect_compression(packed) if packed else ""
        if not name:
            return
        self._work += 1
        plain = name == "lzma" and not self._window.startswith((ZIP_LZMA, LZIP), at)
        possible = _is_zstd(packed) if name == "zstd" else not plain or _is_lzma(packed)
        if possible and unpack_start(packed, name, BLOCK, cut=True) != (b"", False):
            self._work += WORK
            contents = list[bytes]()
            form = self._identify(self._packed(at, START), contents)
            self.form = self.form or form
            yield from contents
        if self._work >= MOST_WORK:
            self.form = self.form or "unknown"

    def _packed(self, at: int, most: int) -> bytes:
        """Return the content at a place; lzip, and an LZMA entry of a zip archive (APPNOTE, 5.8.8), as a `.lzma`."""
        packed = self._window[at : at + most]
        if not packed.startswith(ZIP_LZMA):
            if not self._place + at:
                return b""
            return _convert_lzip(packed) if packed.startswith(LZIP) else packed
        if packed[8:10] != b"\x0e\0":
            return b""
        begin = 30 + int.from_bytes(packed[26:28], "little") + int.from_bytes(packed[28:30], "little")
        packed = self._window[at + begin : at + begin + most]
        return packed[4:9] + ALONE + packed[9:] if packed[2:4] == b"\x05\0" else b""
