"""Tests of archives and compressed content behind other content."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
import zlib

import pytest
import zstandard

from supply_chain.adapters.image import embedded
from supply_chain.adapters.image.compression import BLOCK
from supply_chain.adapters.image.embedded import START
from supply_chain.adapters.image.file_content import CHUNK, ContentStore, read_file

ELF = b"\x7fELF\x02\x01\x01\0" + bytes(8) + b"\x02\0\x3e\0" + bytes(100)
TOKEN = b"ghp_" + b"aB3" * 12
TEXT = b"many words, so that it is worth it; " * 100 + b"\n" + TOKEN + b"\n"
NOISE = random.Random(1).randbytes(300_000)


def tar(form=tarfile.USTAR_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        archive.addfile(tarfile.TarInfo("package/METADATA"))
    return buffer.getvalue()


def zipped(method=zipfile.ZIP_DEFLATED, text=TEXT, name="a.txt"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


def read(content, *, secrets=False):
    return read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=secrets)


def at(size, **places):
    """Return zeros with bytes at places."""
    content = bytearray(size)
    for place, value in places.items():
        content[int(place[1:]) : int(place[1:]) + len(value)] = value
    return bytes(content)


def old_tar():
    """Return a tar of before POSIX, as `tar --format=v7` writes it."""
    header = tar()[:BLOCK][:257] + bytes(BLOCK - 257)
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:] + bytes(2 * BLOCK)


def alone(content, **filters):
    """Return a `.lzma`."""
    return lzma.compress(content, lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, **filters}])


def lzip(content):
    """Return lzip, as its manual describes it."""
    return b"LZIP\x01\x17" + alone(content, dict_size=2**23)[13:] + bytes(20)


ROMFS_SUM = (-sum(int.from_bytes(word, "big") for word in (b"-rom", b"1fs-", b"\0\0\0\x20", b"name")) % 2**32).to_bytes(
    4, "big"
)
"""The checksum of a file system of 32 bytes that is called `name`."""
LZ4 = b"\x04\x22\x4d\x18\x64\x40\xa7\x0a\0\0\0\x90some text" + bytes(8)
"""As `lz4` writes it."""
LZ4_LEGACY = b"\x02\x21\x4c\x18\x0b\0\0\0\x1fa\x01\0\x50\x50bbbbb"
SEVEN = bytes(20)
ARCHIVES = {
    "tar": tar(),
    "tar, gnu": tar(tarfile.GNU_FORMAT),
    "tar, gzip": gzip.compress(tar()),
    "tar, bzip2": bz2.compress(tar()),
    "tar, xz": lzma.compress(tar()),
    "tar, zstd": zstandard.compress(tar()),
    "unknown, xz": lzma.compress(tar(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**29}]),
    "deb": b"!<arch>\ndebian-binary   " + b"1700000000  0     0     100644  4         `\n",
    "rpm": b"\xed\xab\xee\xdb\x03\0" + bytes(90) + b"\x8e\xad\xe8\x01",
    "squashfs": at(200, a0=b"hsqs", a22=b"\x11", a28=b"\x04"),
    "cpio": b"070701" + b"0" * 104,
    "cpio, odc": b"070707" + b"0" * 70,
    "7z": b"7z\xbc\xaf\x27\x1c\0\x04" + zlib.crc32(SEVEN).to_bytes(4, "little") + SEVEN,
    "rar": b"Rar!\x1a\x07\x01\0" + b"abcd\x0a\x01",
    "cabinet": b"MSCF" + at(32, a20=b"\x03\x01"),
    "ext file system": at(2048, a1048=b"\x02", a1080=b"\x53\xef\x01\0\x01", a1100=b"\x01", a1108=b"\x0b\0\0\0\0\x01"),
    "xfs": b"XFSB\0\0\x10\0",
    "btrfs": at(200, a48=b"\0\0\x01", a64=b"_BHRfS_M"),
    "iso9660": b"\x01CD001\x01\0" + b" " * 64 + bytes(8),
    "erofs": at(200, a0=b"\xe2\xe1\xf5\xe0", a12=b"\x0c"),
    "cramfs": at(100, a0=b"\x45\x3d\xcd\x28", a16=b"Compressed ROMFS"),
    "xar": b"xar!\0\x1c\0\x01" + at(20, a19=b"\x01"),
    "wim": b"MSWIM\0\0\0\xd0\0\0\0",
    "disk image": b"QFI\xfb\0\0\0\x03" + at(16, a15=b"\x10"),
    "disk image, vmdk": b"KDMV\x01\0\0\0\x03\0\x01\0" + bytes(8),
    "asar": b"\4\0\0\0\x20\0\0\0\x1c\0\0\0\x16\0\0\0" + b'{"files":{"a.js":{}}}',
    "zip": zipped() + bytes(100_000),
    "tar, old": old_tar(),
    "tar, lzma": alone(tar()),
    "tar, lzma of known size": alone(tar())[:5] + (600).to_bytes(8, "little") + alone(tar())[13:],
    "tar, lzma with other parameters": alone(tar(), lc=2, lp=1, pb=1),
    "tar, lzma in lzip": lzip(tar()),
    "lz4": LZ4,
    "lz4, legacy": LZ4_LEGACY,
    "romfs": b"-rom1fs-\0\0\0\x20\xff\xff\xff\xff".replace(b"\xff" * 4, ROMFS_SUM) + b"name" + bytes(12),
    "tar, gzip, behind a text": gzip.compress(TEXT + tar()),
    "zip, gzip, behind a text": gzip.compress(TEXT + zipped()),
}
"""Format → an archive; what the format has after a comma may be a variant."""


@pytest.mark.parametrize("before", [1, CHUNK - 100, START + CHUNK - 2])
@pytest.mark.parametrize(("form", "archive"), ARCHIVES.items(), ids=ARCHIVES)
def test_archive_behind_a_program_is_found(form, archive, before):
    """Its place in the file does not matter, nor what follows."""
    found = read(ELF + bytes(before) + archive + b"x" * 1000).archive

    assert found
    assert f"{form},".startswith(f"{found},") or form.startswith(f"{found} ")


READERS = {
    "magic numbers": ELF + b"".join(anchor + b"\0some code" for _, _, anchor, _ in embedded._FORMS),
    "tar header with another checksum": ELF + b"x" + tar()[:148] + b"0000001\0" + tar()[156:],
    "7z with another checksum": ELF + ARCHIVES["7z"][:8] + bytes(24),
    "zstd in code": ELF + b"\x28\xb5\x2f\xfd\x80\xbc\x24\x95\0\0\0\0\x74\x07\xb8\x04\0" + bytes(100),
    "compressed text": ELF + gzip.compress(TEXT) + bz2.compress(TEXT) + lzma.compress(TEXT) + zstandard.compress(TEXT),
    "compressed text, lzma and lzip": ELF + alone(TEXT) + lzip(TEXT),
    "lz4 with another checksum": ELF + LZ4[:6] + b"\xa6" + LZ4[7:],
    "lz4 in code": ELF + LZ4_LEGACY[:4] + b"\x75\x07\xb8\0\x0f\x84\x12\x34" * 20,
    "lz4 that repeats nothing": ELF + LZ4_LEGACY[:10] + b"\x02" + LZ4_LEGACY[11:],
    "table of numbers": ELF + b"".join(n.to_bytes(4, "little") for n in (93, 1, 0x10000, 0, 0)) * 20_000,
    "octal numbers": ELF + b"000644 \0" * 1000,
    "gzip in code": ELF + b"\x1f\x8b\x08\x00" + b"\xff" * 100,
    "zip header": ELF + b"PK\x03\x04\x0e\0\x0e\0\x0e\0 PK\x01\x02 PK\x05\x06" + bytes(100_000),
}


@pytest.mark.parametrize("content", READERS.values(), ids=READERS)
def test_program_with_magic_numbers_of_archives_is_no_archive(content):
    """It contains their magic numbers."""
    assert read(content).archive == ""


@pytest.mark.parametrize(
    ("more", "form"),
    [(tar(), "tar"), (zipped(), "jar"), (gzip.compress(b"text"), "jar")],
    ids=["tar", "jar", "compressed"],
)
def test_jar_with_archive_of_another_kind_is_unjudged(more, form):
    """Syft opens Java archives in Java archives."""
    assert read(zipped(zipfile.ZIP_STORED, more, "META-INF/MANIFEST.MF")).archive == form


@pytest.mark.parametrize(
    ("flags", "method", "form"),
    [
        (b"\0\0", b"\x08\0", "jar"),
        (b"\x01\0", b"\x08\0", "zip"),
        (b"\0\0", b"\x63\0", "zip"),
        (b"\0\0", b"\x09\0", "zip"),
    ],
    ids=["deflated", "encrypted", "AES", "deflate64"],
)
def test_jar_with_entries_that_cannot_be_read_is_not_judged(flags, method, form):
    """Neither a scanner nor the search for secrets reads them."""
    jar = zipped(name="META-INF/MANIFEST.MF")
    entry = jar.index(b"PK\x01\x02")

    assert read(jar[: entry + 8] + flags + method + jar[entry + 12 :]).archive == form


@pytest.mark.parametrize("before", [0, 1000, CHUNK - 20, START + CHUNK - 2])
@pytest.mark.parametrize(
    "content", [*map(zipped, (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)), gzip.compress(TEXT)], ids=["bzip2", "lzma", "gzip"]
)
def test_secret_in_compressed_content_behind_other_content_is_found(content, before):
    """Entries of zip archives may have other methods than deflate."""
    found = read(b"x" * before + content, secrets=True)

    assert (found.secrets, {kind for _, kind in found.packed}) == ((), {"GitHub token"})
    assert read(b"x" * before + content).packed == ()


def test_large_zip_archive_is_searched():
    """A zip64 archive has its sizes in another field."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w", force_zip64=True) as file,
    ):
        file.write(TEXT)

    assert {kind for _, kind in read(buffer.getvalue(), secrets=True).packed} == {"GitHub token"}


def test_number_of_compressed_contents_is_limited(monkeypatch):
    """What is beyond the limit is not judged."""
    monkeypatch.setattr(embedded, "MOST_WORK", 300)

    assert [read(ELF + gzip.compress(b"text") * count).archive for count in (2, 3)] == ["", "unknown"]


def test_number_of_false_beginnings_is_limited(monkeypatch):
    """A mebibyte of them would take minutes."""
    monkeypatch.setattr(embedded, "MOST_WORK", 300)

    assert read(ELF + b"\x1f\x8b\x08\0" * (CHUNK // 4) + NOISE).archive == "unknown"
