"""Unpacking of compressed content, within limits of memory and of the unpacked size."""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

import zstandard

from supply_chain.adapters.image.patterns import compile_linear_pattern

UNPACKED = 1024 * 1024
"""Maximum bytes to which a compressed file, or an entry of a zip archive, is unpacked."""
LARGEST_WINDOW = 256 * 1024 * 1024
"""Maximum bytes of memory for unpacking."""
BLOCK = 512
"""Bytes of a tar header, and of unpacked content per step."""
MOST_STREAMS = 64
"""Maximum consecutive compressed streams of a file that are unpacked."""
PIECE = 16 * 1024
"""Bytes of compressed input per step."""
ERRORS = (zlib.error, OSError, lzma.LZMAError, zstandard.ZstdError)
"""Errors of the decompressors."""
LZMA_HEADER, LZMA_PROPERTIES = 13, 225
"""Bytes before the content of a `.lzma` file, and the exclusive maximum of its first byte."""

COMPRESSED = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((bytes((0x50 + n,)) + b"\x2a\x4d\x18", "zstd") for n in range(16)),  # a skippable frame (RFC 8878, 3.1.2)
)
"""Beginning of a compressed file → compression."""
_COMPRESSED = tuple(start for start, _ in COMPRESSED)


ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
"""Beginning of a zlib stream with the usual window (RFC 1950, 2.2)."""


def detect_compression(start: bytes) -> str:
    """Return the compression of a file that begins with `start`; empty if it is not compressed."""
    if start.startswith(_COMPRESSED):
        return next(name for magic, name in COMPRESSED if start.startswith(magic))
    if start.startswith(ZLIB):
        return "zlib" if _is_zlib(start) else ""
    return "lzma" if _is_lzma(start) else ""


def _is_zlib(start: bytes) -> bool:
    """Return whether what begins like a zlib stream can be unpacked: its header of two bytes is no magic number."""
    try:
        return bool(zlib.decompressobj().decompress(start[:PIECE], BLOCK))
    except zlib.error:
        return False


def _is_lzma(start: bytes) -> bool:
    """Return whether a file begins like a `.lzma`, which has no magic number, by the rules of `xz` and liblzma."""
    if len(start) <= LZMA_HEADER or start[LZMA_HEADER] or start[0] >= LZMA_PROPERTIES:
        return False
    window, size = int.from_bytes(start[1:5], "little"), int.from_bytes(start[5:13], "little")
    few_bits = window.bit_count() == 1 or (window.bit_count() == 2 and window & window << 1)
    return bool(few_bits or window == 2**32 - 1) and (size < 2**38 or size == 2**64 - 1)


def unpack_start(packed: bytes, name: str, most: int, *, cut: bool) -> tuple[bytes, bool]:
    """Return the beginning of the unpacked content, and whether more may follow: from the rest, or with more memory."""
    inside = bytearray()
    try:
        for part in _UNPACK[name](packed):
            inside += part
            if len(inside) >= most:
                return bytes(inside), True
    except _TooManyStreams:
        return bytes(inside), True
    except ERRORS as error:
        return bytes(inside), "memory" in str(error).lower()
    return bytes(inside), cut


DEFLATED = compile_linear_pattern(
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
        before = unpacker.copy()
        try:
            self._inside += unpacker.decompress(part, UNPACKED - len(self._inside))
        except zlib.error:
            self._unpacker = None
            self._inside += _until_error(before, part, UNPACKED - len(self._inside))
            return
        self._place += len(part) - len(unpacker.unused_data) - len(unpacker.unconsumed_tail)
        if unpacker.eof or len(self._inside) >= UNPACKED:
            self._unpacker = None


def _until_error(unpacker: zlib._Decompress, part: bytes, most: int) -> bytes:
    """Return what is unpacked before the error."""
    inside = bytearray()
    with suppress(zlib.error):
        for at in range(len(part)):
            if len(inside) < most:
                inside += unpacker.decompress(part[at : at + 1], most - len(inside))
    return bytes(inside)


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

    def unpack_streams(packed: bytes) -> Iterator[bytes]:
        end = 0
        for _ in range(MOST_STREAMS):
            for at, part in _stream(make, packed, end):
                end = at
                yield part
            padded = _PADDING.match(packed, end)
            end = padded.end() if padded else end
            if end == len(packed):
                return
        raise _TooManyStreams

    return unpack_streams


def _stream(make: Callable[[], _Decompressor], packed: bytes, begin: int) -> Iterator[tuple[int, bytes]]:
    """Yield each part of the unpacked stream at `begin`, and where the input for it ends."""
    at, size = begin, 0
    try:
        for at, part in _steps(make(), packed, begin):
            size += len(part)
            yield at, part
    except ERRORS:
        steps = _steps(make(), packed, begin, max(begin, at - PIECE), size)
        yield from ((at, part) for part in _after(size, (part for _, part in steps)))


def _steps(
    unpacker: _Decompressor, packed: bytes, at: int, careful: int | None = None, size: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield each part of the unpacked stream at `at`, and where the input for it ends.

    With `careful`, take the input byte by byte from there, and give the output byte by byte after `size` bytes.
    """
    while not unpacker.eof:
        most = PIECE if careful is None else max(1, min(PIECE, careful - at))
        piece = packed[at : at + most] if getattr(unpacker, "needs_input", True) else b""
        part = unpacker.decompress(piece, BLOCK if careful is None else max(1, min(BLOCK, size)))
        unused = unpacker.unused_data if unpacker.eof else getattr(unpacker, "unconsumed_tail", b"")
        at += len(piece) - len(unused)
        size -= len(part)
        yield at, part
        if not part and not piece and at == len(packed):
            return


def _after(size: int, parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what follows the first `size` bytes of all parts.

    A decompressor raises an error in place of what it unpacked in the same step. To get this, its input is repeated in
    smaller steps.
    """
    for part in parts:
        size -= len(part)
        if size < 0:
            yield part[size:]


def _unzstd(packed: bytes) -> Iterator[bytes]:
    """Yield the unpacked content in blocks."""
    size = 0
    try:
        for part in _frames(packed, PIECE):
            size += len(part)
            yield part
    except zstandard.ZstdError:
        yield from _after(size, _frames(packed, 1))


def _frames(packed: bytes, step: int) -> Iterator[bytes]:
    """Yield the unpacked content in blocks; the input is taken in steps of `step` bytes."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    with unpacker.stream_reader(io.BytesIO(packed), read_size=step, read_across_frames=True) as stream:
        while part := stream.read1(BLOCK):
            yield part


_UNPACK: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _streams(lambda: zlib.decompressobj(wbits=31)),
    "zlib": _streams(zlib.decompressobj),
    "bzip2": _streams(bz2.BZ2Decompressor),
    "xz": _streams(lambda: lzma.LZMADecompressor(memlimit=LARGEST_WINDOW)),
    "lzma": _streams(lambda: lzma.LZMADecompressor(memlimit=LARGEST_WINDOW)),
    "zstd": _unzstd,
}
