"""Limits for archives in a build context that `ADD` unpacks: the engine unpacks them outside of a build's limits.

The archive determines how much memory that takes: an xz dictionary may have 4 GiB, a zstd window 512 MiB. gzip and
bzip2 have fixed windows of less than a MiB.
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import zstandard

from supply_chain.adapters.files.selection import list_files
from supply_chain.adapters.image.compression import detect_compression
from supply_chain.adapters.process.cancellation import get_current_cancellation
from supply_chain.errors import BuildLimitExceeded
from supply_chain.text import format_mebibytes, sanitize_text

LARGEST_WINDOW = 64 * 1024**2
"""Maximum bytes of an archive's dictionary or window: `xz -9` uses 64 MiB."""
OVERHEAD = 8 * 1024**2
"""Bytes of memory that liblzma uses in addition to the dictionary."""
PIECE = 64 * 1024
"""Bytes that are unpacked at once; each stream of a file copies the rest of its piece."""
LONGEST_MAGIC = 6
"""Bytes that identify xz and zstd."""


def check_archives(context: Path, most: int, seconds: float) -> None:
    """Raise `BuildLimitExceeded` if the archives take too much memory, time or, together, more than `most` bytes.

    Unpacks each file that begins like xz or zstd once, to its end, because later streams of a file may need more memory
    than the first. The unpacked content is not stored. An invalid archive is not an error here: BuildKit refuses it.
    """
    left, deadline = most, time.monotonic() + seconds
    for name in list_files(context):
        with (context / name).open("rb") as packed:
            pieces = _UNPACK.get(detect_compression(packed.read(LONGEST_MAGIC)))
            if pieces:
                packed.seek(0)
                left -= _check(sanitize_text(name), pieces(packed), left, deadline)


def _check(name: str, pieces: Iterator[int], most: int, deadline: float) -> int:
    """Return the bytes to which an archive unpacks."""
    scope, total = get_current_cancellation(), 0
    try:
        for size in pieces:
            scope.wait(0)
            total += size
            if total > most:
                raise BuildLimitExceeded(
                    f"{name} unpacks to more than the image may have: {format_mebibytes(most)} are left for it.\n"
                    "Unpack it in a RUN instruction instead of ADD, or raise build.max_size."
                )
            if time.monotonic() > deadline:
                raise BuildLimitExceeded(
                    f"Unpacking the archives of the build context takes longer than the build may: stopped at {name}.\n"
                    "Leave archives that the image does not need out by .dockerignore, or raise build.timeout."
                )
    except (lzma.LZMAError, zstandard.ZstdError, EOFError) as error:
        if "emory" in str(error):
            raise BuildLimitExceeded(
                f"ADD of {name} takes more than {LARGEST_WINDOW // 1024**2} MiB of the engine's own memory: {error}\n"
                "Pack it with a smaller dictionary or window (xz -6, zstd -19), or unpack it in a RUN instruction."
            ) from error
    return total


def _unxz(packed: IO[bytes]) -> Iterator[int]:
    """Yield the sizes of the unpacked pieces of all streams, with any number of zeros between two (`xz` skips them)."""
    unpacker = _new_unxz()
    between, rest = False, b""
    while piece := rest or packed.read(PIECE):
        rest = b""
        if between and not (piece := piece.lstrip(b"\0")):
            yield 0
            continue
        between = False
        yield len(unpacker.decompress(piece, PIECE))
        while not unpacker.eof and not unpacker.needs_input:
            yield len(unpacker.decompress(b"", PIECE))
        if unpacker.eof:
            between, rest = True, unpacker.unused_data
            unpacker = _new_unxz()


def _new_unxz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_WINDOW + OVERHEAD)


def _unzstd(packed: IO[bytes]) -> Iterator[int]:
    unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    with unpacker.stream_reader(packed, read_across_frames=True, closefd=False) as stream:
        while piece := stream.read(PIECE):
            yield len(piece)


_UNPACK: dict[str, Callable[[IO[bytes]], Iterator[int]]] = {"xz": _unxz, "zstd": _unzstd}
