"""zlib streams with a tar archive behind a program."""

from __future__ import annotations

import re
import struct
import zlib

from supply_chain.adapters.image.compression import BLOCK, ZLIB
from supply_chain.adapters.image.embedded import has_tar_checksum

_START = re.compile(rb"x[%b]" % re.escape(bytes(start[1] for start in ZLIB)))
PREVIEW = 2048
"""Bytes of a stream from which the first header of its archive is unpacked."""
MOST_STREAMS = 20_000
"""Maximum beginnings of streams in a file that are tried."""


def find_program_end(head: bytes) -> int:
    """Return where the segments and the table of sections of an ELF program end; 0 if its header is damaged."""
    wide, order = head[4:5] == b"\2", ">" if head[5:6] == b"\2" else "<"
    try:
        if wide:
            segments, sections = struct.unpack_from(f"{order}QQ", head, 32)
            size, count, row, rows = struct.unpack_from(f"{order}4H", head, 54)
            form = f"{order}8xQ16xQ"
        else:
            segments, sections = struct.unpack_from(f"{order}II", head, 28)
            size, count, row, rows = struct.unpack_from(f"{order}4H", head, 42)
            form = f"{order}4xI8xI"
        ends = [sum(struct.unpack_from(form, head, segments + size * each)) for each in range(count)]
    except struct.error:
        return 0
    return max([sections + row * rows, *ends], default=0)


class AppendedZlib:
    """Finds a zlib stream with a tar archive behind a program while the file is read."""

    form = ""
    """Format of the archive; empty if none, `unknown` if there is too much to try."""

    def __init__(self) -> None:
        self._next, self._tried = -1, 0

    def search(self, piece: bytes, place: int, *, end: bool) -> None:
        """Search a piece of the file at `place`; the next piece overlaps it by more than `PREVIEW` bytes."""
        if self._next < 0:
            self._next = find_program_end(piece)
        last = len(piece) - (0 if end else PREVIEW)
        for match in _START.finditer(piece, max(0, self._next - place)):
            if match.start() >= last or self.form:
                break
            self._tried += 1
            if _begins_tar(piece[match.start() : match.start() + PREVIEW]):
                self.form = "tar, zlib"
            elif self._tried > MOST_STREAMS:
                self.form = "unknown, zlib"
        self._next = max(self._next, place + last)


def _begins_tar(packed: bytes) -> bool:
    try:
        block = zlib.decompressobj().decompress(packed, BLOCK)
    except zlib.error:
        return False
    return len(block) == BLOCK and (block[257:262] == b"ustar" or has_tar_checksum(block))
