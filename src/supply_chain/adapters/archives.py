"""Archives in a build context that `ADD` unpacks: the engine does so in its own process, outside of a build's limits.

How much memory that takes is the archive's choice: an xz dictionary may have 4 GiB, a zstd window 512 MiB. gzip and
bzip2 have fixed ones of less than a MiB.
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import zstandard

from supply_chain.adapters.command import cancellation
from supply_chain.errors import BuildLimitExceeded
from supply_chain.shown import plain

LARGEST_WINDOW = 64 * 1024**2
"""Bytes of an archive's dictionary or window: `xz -9` makes one of 64 MiB."""
OVERHEAD = 8 * 1024**2
"""Bytes that liblzma takes besides the dictionary."""
PIECE = 1024**2
XZ = b"\xfd7zXZ\0"
ZSTD = b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x2a\x4d\x18"
"""The last three of the first four bytes of a zstd frame that holds no data (RFC 8878, 3.1.2)."""


def check_archives(context: Path, most: int) -> None:
    """Refuse archives whose unpacking takes too much memory, or gives more than `most` bytes.

    Each file that begins as xz or zstd does is unpacked once and not kept: later streams of a file may ask for more
    than the first. Raises `BuildLimitExceeded`; what is no whole archive is BuildKit's to refuse.
    """
    for above, _, names in os.walk(context):
        for name in names:
            path = Path(above) / name
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as packed:
                if pieces := _unpacker(packed.read(6)):
                    packed.seek(0)
                    _check(plain(path.relative_to(context)), pieces(packed), most)


def _unpacker(head: bytes) -> Callable[[IO[bytes]], Iterator[int]] | None:
    if head == XZ:
        return _unxz
    return _unzstd if head.startswith(ZSTD) or (head[1:4] == SKIPPABLE and head[0] >> 4 == 5) else None


def _check(name: str, pieces: Iterator[int], most: int) -> None:
    scope, total = cancellation(), 0
    try:
        for size in pieces:
            scope.wait(0)
            total += size
            if total > most:
                raise BuildLimitExceeded(
                    f"{name} unpacks to more than the {most // 1024**2} MiB that the image may have.\n"
                    "Unpack it in a RUN instruction instead of ADD, or raise build.max_size."
                )
    except (lzma.LZMAError, zstandard.ZstdError, EOFError) as error:
        if "emory" in str(error):
            raise BuildLimitExceeded(
                f"ADD of {name} takes more than {LARGEST_WINDOW // 1024**2} MiB of the engine's own memory: {error}\n"
                "Pack it with a smaller dictionary or window (xz -6, zstd -19), or unpack it in a RUN instruction."
            ) from error


def _unxz(packed: IO[bytes]) -> Iterator[int]:
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_WINDOW + OVERHEAD)
    rest = b""
    while piece := rest or packed.read(PIECE):
        yield len(unpacker.decompress(piece, PIECE))
        while not unpacker.eof and not unpacker.needs_input:
            yield len(unpacker.decompress(b"", PIECE))
        rest = b""
        if unpacker.eof:
            rest = unpacker.unused_data.lstrip(b"\0")
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_WINDOW + OVERHEAD)


def _unzstd(packed: IO[bytes]) -> Iterator[int]:
    unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    with unpacker.stream_reader(packed, read_across_frames=True, closefd=False) as stream:
        while piece := stream.read(PIECE):
            yield len(piece)
