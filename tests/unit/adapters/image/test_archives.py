"""Tests that archives for ADD are refused before the build if the engine needs too much memory to unpack them."""

import gzip
import lzma
import os

import pytest
import zstandard

from supply_chain.adapters.image.archives import check_archives
from supply_chain.adapters.process.cancellation import Cancellation, current
from supply_chain.errors import BuildLimitExceeded, Cancelled

MOST = 4 * 1024**2
SECONDS = 60
TEXT = b"text" * 1000
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0skip"


def xz(size):
    """Return an xz archive with a dictionary of `size` MiB."""
    return lzma.compress(TEXT, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": size * 1024**2}])


def zstd(log, content=TEXT):
    """Return a zstd archive of unknown size with a window of 2^log bytes."""
    made = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=log, write_content_size=False)
    ).compressobj()
    return made.compress(content) + made.flush()


GOOD = {
    "xz -9": lambda: xz(64),
    "zstd -19": lambda: zstd(23),
    "two streams": lambda: xz(8) + bytes(8) + xz(8),
    "zeros to the end": lambda: xz(8) + bytes(2**18),
    "a skippable frame": lambda: SKIPPED + zstd(20),
    "gzip": lambda: gzip.compress(TEXT),
    "cut off": lambda: xz(8)[:40],
    "rubbish after it": lambda: xz(8) + b"rubbish",
    "rubbish": lambda: b"\xfd7zXZ\0rubbish",
    "text": lambda: TEXT,
    "empty": lambda: b"",
}
BAD = {
    "xz": lambda: xz(128),
    "zstd": lambda: zstd(27),
    "a second xz stream": lambda: xz(8) + bytes(4) + xz(128),
    "an xz stream behind many zeros": lambda: xz(8) + bytes(2**18) + xz(128),
    "a second zstd frame": lambda: zstd(20) + zstd(27),
    "behind a skippable frame": lambda: SKIPPED + zstd(27),
}
BOMBS = {
    "xz": lambda: lzma.compress(bytes(MOST + 1)),
    "xz behind many zeros": lambda: xz(8) + bytes(2**18) + lzma.compress(bytes(MOST + 1)),
    "zstd": lambda: zstd(20, bytes(MOST + 1)),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_check_archives_accepts_archive_that_needs_little_memory(tmp_path, content):
    """A damaged archive is accepted too, because BuildKit reports what is wrong with it."""
    (tmp_path / "a").write_bytes(content())

    check_archives(tmp_path, MOST, SECONDS)


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_check_archives_refuses_too_large_dictionary(tmp_path, content):
    """Neither the position in the file nor the name of the file matters."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a\nb").write_bytes(content())

    with pytest.raises(BuildLimitExceeded, match="ADD of below/a b takes more than 64 MiB of the engine's own memory"):
        check_archives(tmp_path, MOST, SECONDS)


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_check_archives_refuses_archive_larger_than_the_image(tmp_path, content):
    """The archive is unpacked only up to the limit."""
    (tmp_path / "a").write_bytes(content())

    with pytest.raises(BuildLimitExceeded, match="a unpacks to more than the image may have: 4 MiB are left for it"):
        check_archives(tmp_path, MOST, SECONDS)


def test_check_archives_limits_total_size_of_all_archives(tmp_path):
    """The image may have what both unpack to only if they are one archive."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(lzma.compress(bytes(MOST // 2 + 1)))

    with pytest.raises(
        BuildLimitExceeded, match=r"[ab] unpacks to more than the image may have: 1 MiB are left for it"
    ):
        check_archives(tmp_path, MOST, SECONDS)


@pytest.mark.parametrize("content", [lzma.compress(bytes(MOST)), lzma.compress(b"") * 1000], ids=["zeros", "streams"])
def test_check_archives_ends_with_the_time_of_the_build(tmp_path, content):
    """A few KiB can take minutes, and nothing else ends them."""
    (tmp_path / "a").write_bytes(content)

    with pytest.raises(BuildLimitExceeded, match="takes longer than the build may: stopped at a"):
        check_archives(tmp_path, MOST, 0)


def test_check_archives_skips_symlinks_and_pipes(tmp_path):
    """A symbolic link leads to another file of the context or outside of it."""
    (tmp_path / "link").symlink_to("/proc/self/mem")
    os.mkfifo(tmp_path / "pipe")

    check_archives(tmp_path, MOST, SECONDS)


def test_check_archives_stops_if_run_is_cancelled(tmp_path):
    """A large archive takes minutes."""
    (tmp_path / "a").write_bytes(GOOD["xz -9"]())
    scope = Cancellation()
    scope.cancel()
    token = current.set(scope)
    try:
        with pytest.raises(Cancelled):
            check_archives(tmp_path, MOST, SECONDS)
    finally:
        current.reset(token)
