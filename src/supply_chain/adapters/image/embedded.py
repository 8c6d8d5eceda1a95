"""Archives, file systems and compressed content at any place in a file, such as behind a program."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator

import zstandard

from supply_chain.adapters.image.compression import BLOCK, COMPRESSED, detect_compression, unpack_start
from supply_chain.adapters.image.patterns import any_of

START = 2 * 1024 * 1024
"""Bytes at the beginning of compressed content that are unpacked: bzip2 gives no output before the end of a block of
900 kB."""
PREVIEW = 512
"""Bytes of compressed content that are unpacked first, because most that begins like it is none."""
BEFORE, LONGEST_ANCHOR = 512, 16
"""Maximum bytes before the anchor of a form that belong to it, and of an anchor."""
MOST_WORK, WORK = 10_000, 100
"""Maximum beginnings of compressed content in a file that are read, and how many of them one counts for that is
unpacked."""
ALONE = b"\xff" * 8
"""The unknown size in the header of a `.lzma` file."""

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
)  # fmt: skip
"""Format, bytes before its anchor, the anchor, and the pattern of its header. Programs that read a format contain the
anchor alone."""
_HEADERS = tuple((name, before, anchor, re.compile(pattern)) for name, before, anchor, pattern in _FORMS)
_STREAMS = tuple(magic for magic, _ in COMPRESSED if magic[1:4] != b"\x2a\x4d\x18")
ZIP_LZMA = b"PK\x03\x04"
_ANCHORS = any_of(*(anchor for _, _, anchor, _ in _HEADERS), *_STREAMS, ZIP_LZMA)


def has_tar_checksum(block: bytes) -> bool:
    """Return whether the checksum in a tar header of `BLOCK` bytes is right."""
    field = block[148:156].strip(b" \0")
    if not field or not block[0] or any(digit not in b"01234567" for digit in field):
        return False
    return int(field, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:BLOCK])


def _is_7z(header: bytes) -> bool:
    return zlib.crc32(header[12:32]) == int.from_bytes(header[8:12], "little")


_CONFIRM: dict[str, Callable[[bytes], bool]] = {"tar": has_tar_checksum, "7z": _is_7z}
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


class EmbeddedContent:
    """Archives and compressed content in a file, found while it is read.

    A zip archive is found by its directory (`ZipEntries`). Not found are formats without an identifier, such as `.lzma`
    and tar of before POSIX.
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
        for match in _ANCHORS.finditer(self._window, self._at, min(len(self._window), most + LONGEST_ANCHOR)):
            if match.start() >= most:
                break
            self.form = self.form or self._header(match.start(), match.group())
            yield from self._stream(match.start())
        drop = max(0, most - BEFORE)
        self._window, self._place, self._at = self._window[drop:], self._place + drop, most - drop

    def _header(self, at: int, identifier: bytes) -> str:
        """Return the format of the archive whose anchor is at a place in the window; empty if none."""
        for name, before, anchor, pattern in _HEADERS:
            begin = at - before
            if identifier == anchor and begin >= 0 and pattern.match(self._window, begin):
                confirm = _CONFIRM.get(name)
                if not confirm or confirm(self._window[begin : begin + BLOCK]):
                    return name
        return ""

    def _stream(self, at: int) -> Iterator[bytes]:
        """Unpack the compressed content at a place in the window, except at the file's beginning."""
        packed = self._packed(at, PREVIEW) if self._work < MOST_WORK else b""
        name = detect_compression(packed) if packed else ""
        if not name:
            return
        self._work += 1
        if (name != "zstd" or _is_zstd(packed)) and unpack_start(packed, name, BLOCK, cut=True) != (b"", False):
            self._work += WORK
            contents = list[bytes]()
            form = self._identify(self._packed(at, START), contents)
            self.form = self.form or form
            yield from contents
        if self._work >= MOST_WORK:
            self.form = self.form or "unknown"

    def _packed(self, at: int, most: int) -> bytes:
        """Return the compressed content at a place; an LZMA entry of a zip archive as a `.lzma` (APPNOTE, 5.8.8)."""
        packed = self._window[at : at + most]
        if not packed.startswith(ZIP_LZMA):
            return packed if packed.startswith(_STREAMS) and self._place + at else b""
        if packed[8:10] != b"\x0e\0":
            return b""
        begin = 30 + int.from_bytes(packed[26:28], "little") + int.from_bytes(packed[28:30], "little")
        packed = self._window[at + begin : at + begin + most]
        return packed[4:9] + ALONE + packed[9:] if packed[2:4] == b"\x05\0" else b""
