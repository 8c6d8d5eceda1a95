"""Tests of unpacking: several streams, and content before an error."""

import bz2
import functools
import gzip
import io
import itertools
import lzma
import random
import zipfile
import zlib
from collections.abc import Callable

import pytest
import zstandard

from supply_chain.adapters.image.compression import MOST_STREAMS, UNPACKED, detect_compression, unpack_start
from supply_chain.adapters.image.file_content import ContentStore, read_file

KEY = b"aws_access_key_id = AKIA" + b"QWERTYUIOPASDFGH"
NOISE = random.Random(1).randbytes(200_000)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": functools.partial(lzma.compress, format=lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
FIRST = {"tiny": b"", "text": b"a\n" * 50_000, "zeros": bytes(500_000), "noise": NOISE}
STREAMS = [*itertools.product(FIRST, (1, 2)), ("tiny", MOST_STREAMS - 1), ("zeros", MOST_STREAMS - 1)]


def secrets(content):
    return read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True).packed


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
@pytest.mark.parametrize(("name", "streams"), STREAMS)
def test_all_streams_are_unpacked(pack, name, streams):
    """The output of one stream may take many steps, and be produced from very little input."""
    first = FIRST[name][: UNPACKED // streams // 2]
    packed = pack(first) * streams + pack(KEY)

    assert unpack_start(packed, detect_compression(packed), UNPACKED, cut=False) == (first * streams + KEY, False)
    assert {kind for _, kind in secrets(packed)} == {"AWS access key"}


def other(packed, at, size=4):
    """Return the bytes with others at a place."""
    changed = bytes(255 - each for each in packed[at:][:size])
    return packed[:at] + changed + packed[at:][size:]


def broken(name, content):
    """Return packed content with a wrong checksum."""
    packed = PACK[name](content)
    if name == "lzma":  # has none: the end is missing, and rubbish follows
        return packed[:-3] + b"\xff" * 60
    index = 4 * (int.from_bytes(packed[-8:-4], "little") + 1)  # of the xz format, 2.1.2.2
    at = {"gzip": -8, "bzip2": 10 - len(packed), "xz": -12 - index - 8, "zstd": -4}[name]
    return other(packed, len(packed) + at)


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 200_000])
@pytest.mark.parametrize("streams", [0, 1])
def test_content_before_an_error_is_searched(name, size, streams):
    """Programs for unpacking give the content before they report a wrong checksum."""
    content = NOISE[:size] + b" " + KEY + b"\n"
    packed = PACK[name](b"x" * 2000) * streams + broken(name, content)

    inside, more = unpack_start(packed, name, UNPACKED, cut=True)

    assert b"x" * 2000 * streams + content.strip(b"\n") in inside + b"\n"
    assert not more and [kind for _, kind in secrets(packed)] == ["AWS access key"]


@pytest.mark.parametrize("size", [0, 300, 20_000, 200_000])
def test_content_of_archive_entry_before_an_error_is_searched(size):
    """Neither the entry of an archive nor the text of an image has to be valid to its end."""
    content = NOISE[:size] + b" " + KEY + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", content + NOISE)
    cut = buffer.getvalue()[: 50 + len(zlib.compress(content))] + b"\xff" * 5000
    text = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\1zTXtComment\0\0" + other(zlib.compress(content), -4)

    assert [kind for _, kind in secrets(text)] == ["AWS access key"]
    assert size or [kind for _, kind in secrets(cut)] == ["AWS access key"]


@pytest.mark.parametrize("name", PACK)
def test_size_stays_limited_before_an_error(name):
    """A small file may unpack to very much, and the error may come late."""
    packed = broken(name, bytes(3 * UNPACKED))

    inside, more = unpack_start(packed, name, UNPACKED, cut=False)

    assert more and UNPACKED <= len(inside) < UNPACKED + 1024
