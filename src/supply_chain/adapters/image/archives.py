"""Limits for archives in a build context that `ADD` unpacks: the engine unpacks them outside of a build's limits.

The archive determines how much memory that takes: an xz dictionary may have 4 GiB, a zstd window 512 MiB. gzip and
bzip2 have fixed windows of less than a MiB.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import zstandard

from supply_chain.adapters.files.selection import files_below
from supply_chain.adapters.image.compression import compression_of
from supply_chain.adapters.process.command import cancellation
from supply_chain.errors import BuildLimitExceeded
from supply_chain.text import plain_text

LARGEST_WINDOW = 64 * 1024**2
"""Maximum bytes of an archive's dictionary or window: `xz -9` uses 64 MiB."""
OVERHEAD = 8 * 1024**2
"""Bytes of memory that liblzma uses in addition to the dictionary."""
PIECE = 1024**2
LONGEST_MAGIC = 6
"""Bytes that identify xz and zstd."""


def check_archives(context: Path, most: int) -> None:
    """Raise `BuildLimitExceeded` if unpacking an archive takes too much memory or gives more than `most` bytes.

    Unpacks each file that begins like xz or zstd once, to its end, because later streams of a file may need more memory
    than the first. The unpacked content is not stored. An invalid archive is not an error here: BuildKit refuses it.
    """
    for name in files_below(context):
        with (context / name).open("rb") as packed:
            pieces = _UNPACK.get(compression_of(packed.read(LONGEST_MAGIC)))
            if pieces:
                packed.seek(0)
                _check(plain_text(name), pieces(packed), most)


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


_UNPACK: dict[str, Callable[[IO[bytes]], Iterator[int]]] = {"xz": _unxz, "zstd": _unzstd}
