"""Tests of how the type of a file is found by its content, whatever its name."""

import bz2
import functools
import gzip
import hashlib
import io
import lzma
import pickle
import random
import sqlite3
import tarfile
import zipfile
import zlib
from contextlib import closing

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from supply_chain.adapters.image import file_content
from supply_chain.adapters.image.compression import MOST_STREAMS, UNPACKED
from supply_chain.adapters.image.embedded import START
from supply_chain.adapters.image.file_content import HEAD, ContentStore, detect_database, read_file
from supply_chain.adapters.image.secret_forms import MOST_SECRETS, decode_texts


def tar(*names, size=0):
    """Return a tar archive with files of `size` bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names or ("package/METADATA",):
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(noise(size)))
    return buffer.getvalue()


def zipped(name="flask-0.1.dist-info/METADATA", before=b"", comment=b"", more=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each in (name, *more):
            archive.writestr(each, b"x" * 100)
        archive.comment = comment
    return before + buffer.getvalue()


def kind(content):
    return read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=False).archive


def noise(size):
    """Return `size` bytes that do not compress."""
    return random.Random(1).randbytes(size)


def ended(content, at, value):
    """Return the zip archive with other bytes in its end-of-central-directory record."""
    end = content.rfind(b"PK\x05\x06")
    return content[: end + at] + value + content[end + at + len(value) :]


ZIP64 = b"PK\x06\x06" + (44).to_bytes(8, "little") + bytes(44) + b"PK\x06\x07" + bytes(16)


GZIP_EXTRA = b"\x1f\x8b\x08\x04" + bytes(6) + b"\xff\xff" + b"x" * 65535
GZIP_NAME = b"\x1f\x8b\x08\x08" + bytes(6)
BLOCK_HEADER, GIBIBYTE = b"\x02\0!\x01\x16\0\0\0", b"\x02\0!\x01\x24\0\0\0"
LARGE_DICTIONARY = lzma.compress(tar()).replace(
    BLOCK_HEADER + zlib.crc32(BLOCK_HEADER).to_bytes(4, "little"), GIBIBYTE + zlib.crc32(GIBIBYTE).to_bytes(4, "little")
)
ELF = b"\x7fELF\x02\x01\x01\0" + bytes(8) + b"\x02\0\x3e\0" + bytes(100)


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (zipped(), "zip"),
        (zipped(comment=b"c" * 65535), "zip"),
        (zipped(before=b"#!/usr/bin/python3\n"), "zip"),
        (zipped(before=ELF), "zip"),
        (zipped("META-INF/MANIFEST.MF"), "jar"),
        (tar(), "tar"),
        (gzip.compress(tar()), "tar, gzip"),
        (gzip.compress(tar(".SIGN.RSA")[:512]) + gzip.compress(tar()), "tar, gzip"),
        (bz2.compress(tar()), "tar, bzip2"),
        (lzma.compress(tar()), "tar, xz"),
        (zstandard.compress(tar()), "tar, zstd"),
        (gzip.compress(b"070701" + b"0" * 200), "cpio, gzip"),
        (b"!<arch>\ndebian-binary   0  ", "deb"),
        (b"\xed\xab\xee\xdb\x03\0", "rpm"),
        (b"hsqs" + bytes(100), "squashfs"),
        (b"070701" + bytes(100), "cpio"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(30), "7z"),
        (bytes(1080) + b"\x53\xef" + bytes(100), "ext file system"),
        (bytes(32769) + b"CD001" + bytes(100), "iso9660"),
        (ELF[:8] + b"AI\x02" + ELF[11:], "AppImage"),
        (b"xar!\0\x1c" + bytes(30), "xar"),
        (b"MSWIM\0\0\0" + bytes(30), "wim"),
        (b"XFSB\0\0\x10\0", "xfs"),
        (b"\x45\x3d\xcd\x28" + bytes(30), "cramfs"),
        (b"-rom1fs-" + bytes(30), "romfs"),
        (bytes(1024) + b"\xe2\xe1\xf5\xe0" + bytes(100), "erofs"),
        (b"LZIP\x01\x0c" + bytes(30), "lzip"),
        (b"\x89LZO\0\r\n\x1a\n" + bytes(30), "lzop"),
        (b"\x04\x22\x4d\x18" + bytes(30), "lz4"),
        (b"\x02\x21\x4c\x18" + bytes(30), "lz4"),
        (b"\4\0\0\0\x20\0\0\0\x1c\0\0\0\x16\0\0\0" + b'{"files":{"a.js":{}}}', "asar"),
        (b"\4\0\0\0\x20\0\0\0\x1c\0\0\0\x16\0\0\0" + b"other content", ""),
        (b"begins otherwise" + b'{"files":{"a.js":{}}}', ""),
        (ELF + b"x" * 1000 + b"MEI\014\013\012\013\016" + bytes(80), "PyInstaller"),
        (b"", ""),
        (ELF, ""),
        (b"!<arch>\nlibc.o/         ", ""),
        (gzip.compress(b"a changelog\n" * 100), ""),
        (b"PK\x05\x06" + bytes(18), ""),
        (b"text about PK\x05\x06 and nothing more of it, for many lines", ""),
        (ended(zipped(), 8, bytes(4)), "zip"),
        (ended(zipped(), 20, b"\xff\xff"), "zip"),
        (ended(zipped(), 12, bytes(4)), "zip"),
        (ended(zipped(), 12, bytes(8)), "zip"),
        (ended(zipped().replace(b"PK\x05\x06", ZIP64 + b"PK\x05\x06"), 8, b"\xff" * 12), "zip"),
        (zipped(before=bytes(file_content.CHUNK - 150)), "zip"),
        (zipped("META-INF/MANIFEST.MF", more=["flask-0.1.dist-info/METADATA"]), "zip"),
        (zipped("META-INF/MANIFEST.MF", more=["flask/__init__.py"]), "zip"),
        *(
            (zipped("META-INF/MANIFEST.MF", more=[name]), "zip")
            for name in ("payload.tgz", "a/B.TAR.gz", "x.whl", "node_modules/a/b.js", "lodash/package.json")
        ),
        (zipped("META-INF/MANIFEST.MF", more=["lib/a.jar", "words.txt.gz", "x.tar.txt", "my-package.json"]), "jar"),
        (zipped("META-INF/MANIFEST.MF", more=["x" * 3000]), "zip"),
        (zipped("META-INF/MANIFEST.MF", more=[f"{n}.class" for n in range(3000)]), "jar"),
        (bz2.compress(tar(size=800_000)), "tar, bzip2"),
        (bz2.compress(b"") + bz2.compress(tar()), "tar, bzip2"),
        (lzma.compress(b"") + bytes(4) + lzma.compress(tar()), "tar, xz"),
        (lzma.compress(tar(), lzma.FORMAT_ALONE), "tar, lzma"),
        (lzma.compress(b"text" * 1000, lzma.FORMAT_ALONE), ""),
        (b"\x57\x2a\x4d\x18" + (9).to_bytes(4, "little") + bytes(9) + zstandard.compress(tar()), "tar, zstd"),
        (zstandard.compress(tar()) + b"rubbish", "tar, zstd"),
        (gzip.compress(tar(size=80_000)) + b"rubbish", "tar, gzip"),
        (GZIP_EXTRA + gzip.compress(tar())[10:], "tar, gzip"),
        (gzip.compress(gzip.compress(tar())), "tar, gzip, gzip"),
        (gzip.compress(bz2.compress(tar(size=800_000))), "tar, bzip2, gzip"),
        (functools.reduce(lambda inside, _: gzip.compress(inside), range(5), tar()), "unknown" + ", gzip" * 4),
        (gzip.compress(b"!<arch>\ndebian-binary   0  " + bytes(500)), "deb, gzip"),
        (gzip.compress(b"hsqs" + bytes(100)), "squashfs, gzip"),
        (gzip.compress(zipped()), "zip, gzip"),
        (GZIP_NAME + b"x" * START + b"\0" + gzip.compress(tar())[10:], "unknown, gzip"),
        (LARGE_DICTIONARY, "unknown, xz"),
        (gzip.compress(b"") * (MOST_STREAMS - 1) + gzip.compress(tar()), "tar, gzip"),
        (gzip.compress(b"") * MOST_STREAMS + gzip.compress(tar()), "unknown, gzip"),
        (bz2.compress(b"") * MOST_STREAMS + bz2.compress(tar()), "unknown, bzip2"),
        (lzma.compress(b"") * MOST_STREAMS + lzma.compress(tar()), "unknown, xz"),
        (gzip.compress(bz2.compress(b"") * 100_000), "unknown, bzip2, gzip"),
        (gzip.compress(bytes(100)) * 327 + gzip.compress(bytes(69) + b"CD001" + bytes(100)), "unknown, gzip"),
        (gzip.compress(tar()[:10]) + gzip.compress(tar()[10:]) + gzip.compress(b"x") * MOST_STREAMS, "tar, gzip"),
        (gzip.compress(b"a line\n") * MOST_STREAMS, ""),
        (lzma.compress(b"") + bytes(START - 2000) + lzma.compress(tar()), "tar, xz"),
        (gzip.compress(noise(3 * START)), ""),
        (ELF + b"\x81\x38PK\x01\x02\x74" + bytes(50) + b"\x81\x38PK\x05\x06\x0f\x84" + noise(5000), ""),
        (gzip.compress(tar())[:40], ""),
        *((zlib.compress(tar(), level), "tar, zlib") for level in (1, 5, 6, 9)),
        (ELF + zlib.compress(tar()), "tar, zlib"),
        (ELF + b"x\x9c" * 1000 + noise(3 * file_content.CHUNK) + zlib.compress(tar()), "tar, zlib"),
        (ELF + bytes(file_content.CHUNK - len(ELF) - 10) + zlib.compress(tar()), "tar, zlib"),
        (ELF + b"x\x9c" * 30_000, "unknown, zlib"),
        (ELF + noise(file_content.CHUNK), ""),
        (ELF + zlib.compress(b"a text\n" * 1000), ""),
        (zlib.compress(b"a text\n" * 1000), ""),
        (zlib.compress(tar()[:1000].replace(b"ustar", b"usta?")), ""),
        (b"x\x9crubbish", ""),
        (b"\x1f\x8b\x08rubbish", ""),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_archive_is_recognised_by_its_content(content, form):
    """The archive may be appended to a program or compressed; an empty archive and a static library do not count."""
    assert kind(content) == form


@given(
    st.binary(max_size=3000),
    st.sampled_from([b"", b"PK\x05\x06", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"]),
)
@example(b"", b"")
def test_read_file_accepts_any_content(content, start):
    """No content raises an exception."""
    keeper = ContentStore(io.BytesIO())
    content = start + content

    found = read_file(io.BytesIO(content), len(content), keeper, secrets=True)

    assert found.sha256 == hashlib.sha256(content).digest()
    assert keeper.read(found) == content


def test_content_store_stores_only_small_files():
    """Memory and disk use stay bounded."""
    keeper = ContentStore(io.BytesIO())
    large = b"x" * (HEAD + 1)

    assert keeper.read(read_file(io.BytesIO(large), len(large), keeper, secrets=False)) is None
    assert keeper.read(read_file(io.BytesIO(b"small"), 5, keeper, secrets=False)) == b"small"


def test_decompression_bomb_is_not_unpacked():
    """A mebibyte may unpack to a gibibyte of zeros."""
    bomb = zstandard.compress(bytes(64 * 1024 * 1024))
    assert kind(bomb) == "" and kind(gzip.compress(bytes(64 * 1024 * 1024))) == ""


RECORD = b"Package: apt\nStatus: install ok installed\nVersion: 2\nArchitecture: all\n\nPackage: bash\nVersion: 5\n"


@pytest.mark.parametrize(
    ("content", "manager"),
    [
        (RECORD, "dpkg"),
        (RECORD.replace(b"Status", b"Filename"), ""),
        (b"\nStatus: install ok installed\nPackage: apt\nDescription: x\n more\nVersion: 2\n\nPackage: b\n", "dpkg"),
        (RECORD.replace(b"Version", b"Filename: x\nVersion"), "dpkg"),
        (b"Title: x\nVersion: 1\n\nPackage: x\nVersion: 1\n", ""),
        (b"P:musl\nV:1.2\nC:Q1abc=\n\n", "apk"),
        (b"SQLite format 3\0" + bytes(100) + b'CREATE TABLE "Packages" (hnum', "rpm"),
        (b"SQLite format 3\0" + bytes(100) + b"create table PackagesOld (", ""),
        (b"SQLite format 3\0" + bytes(100) + b"CREATE TABLE 'Packages' (hnum", "rpm"),
        (b"SQLite format 3\0" + bytes(100) + b"CREATE TABLE ValidPaths (", "nix"),
        (b"SQLite format 3\0" + bytes(100) + b"CREATE TABLE things (", ""),
        (b"RpmP" + bytes(20), "rpm"),
        (bytes(12) + b"\x61\x15\x06\0" + bytes(20), "rpm"),
        (b"C:Q1abc=\nP:musl\nV:1.2\n", "apk"),
        (b"%NAME%\nbash\n\n%VERSION%\n5\n", "pacman"),
        (b"Package: a word in a text\n", ""),
        (b"", ""),
    ],
)
def test_package_database_is_recognised_by_its_content(content, manager):
    """The path of the file does not matter."""
    assert detect_database(content) == manager


TOKEN = b"ghp_" + b"aB3" * 12
PEM = "private key"


SECRETS = {
    "AWS access key": "AKIA" + "QWERTYUIOPASDFGH",
    "AWS access key: of a session": "ASIA" + "QWERTY7UIOPASDFG",
    "GitHub token": "ghp_" + "aB3" * 12,
    "GitLab token": "glpat-" + "aB3x" * 5,
    "Slack token": "xoxb-123456789012-" + "aB3" * 8,
    "Stripe key": "sk_live" + "_" + "aB3" * 8,
    "Google API key": "AIza" + "aB3-x" * 7,
    "npm token": "npm_" + "aB3" * 12,
    "PyPI token": "pypi-AgE" + "aB3" * 20,
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n" + "b3BlbnNz" * 20,
}
AROUND = ("", "x", "_", "7", "NAME")
"""Values of the neighbouring columns; the empty string means none."""


def database(rows, encoding="UTF-8"):
    """Return the file content of an SQLite database with one table."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(f"CREATE TABLE t ({', '.join(f'c{n}' for n in range(len(rows[0])))})")
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.commit()
        return connection.serialize()


def kinds(content):
    """Return the kinds of secrets found in a file and in its compressed parts."""
    found = read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True)
    return {kind for _, kind in (*found.secrets, *found.packed)}


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize(("name", "secret"), SECRETS.items(), ids=SECRETS)
def test_secret_in_database_is_found(name, secret, encoding):
    """SQLite writes columns without separators, after a header that holds their lengths."""
    for before in AROUND:
        for after in AROUND:
            for row in [(secret,), (before, secret), (secret, after), (before, secret, after)]:
                rows = [("a",) * len(row), row, row[::-1], ("B",) * len(row)]
                assert kinds(database(rows, encoding)) == {name.partition(":")[0]}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(("name", "secret"), SECRETS.items(), ids=SECRETS)
def test_secret_in_pickle_is_found(name, secret, protocol):
    """A pickle has the length before a text and an opcode after it."""
    for each in (secret, secret.encode(), [secret], {"key": secret, "other": "a"}, ("A", secret, "A")):
        assert len(kinds(pickle.dumps(each, protocol))) == 1, name


@pytest.mark.parametrize("kind", ["AKIA", "ASIA"])
def test_aws_key_inside_longer_words_is_ignored(kind):
    """Base64 and tables of names contain such letters by chance."""
    table = b"ENDSWITHAKATHISTISLOWERSTROKE" + kind.encode() + b"NHORIZONTALLYAGGRAVATEDLYOTHERSYMBOLSANDMORE"

    assert kinds(table) == kinds(b"\0" + table + b"\0") == set()


@pytest.mark.parametrize(("before", "after"), [("NAME", "AB3X" * 10), ("AB3X" * 10, "NAME")])
def test_aws_key_next_to_one_long_word_is_found(before, after):
    """The next column may contain a secret key or a digest."""
    assert kinds(database([(before, SECRETS["AWS access key"], after)])) == {"AWS access key"}


AWS_KEY = {"aws_secret_access_key": "wJalrXUtnFEMIK7MDENGbPxRfiCYabcdefgh1234"}


@pytest.mark.parametrize(
    "content",
    [
        *(pickle.dumps(AWS_KEY, protocol) for protocol in (2, 3, 4, 5)),
        database([*AWS_KEY.items()]),
        database([(*each, "next") for each in AWS_KEY.items()]),
    ],
)
def test_aws_secret_key_after_its_name_is_found(content):
    """Records count as well; in a program names merely follow each other."""
    assert kinds(content) == {"AWS key"}
    assert kinds(b"\0aws_secret" + b"_access_keytokenTTLReadTimeoutRetriesOnDeleteOnCreate\0") == set()


WIDE = [f"utf-{size}-{order}" for size in (16, 32) for order in ("le", "be")]


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("before", [b"", b"x", b"\0", b"\xff\0\xff", b"\n\n\xff\xff"])
def test_secret_in_utf16_or_utf32_is_found_on_its_line(encoding, before):
    """No byte order mark is needed, and the text may be in a binary file."""
    for name, secret in SECRETS.items():
        content = before + f"é\n{secret}".encode(encoding) + b"\xff\xff\0\0"
        found = read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True)
        assert [line for line, _ in found.secrets] == [2 + before.count(b"\n")], name


@pytest.mark.parametrize("encoding", WIDE)
def test_utf16_and_utf32_text_counts_as_text(encoding):
    """Passwords are searched in it; binary numbers of the same width are no text."""
    text, numbers = "clé: il n'y a rien à voir\n".encode(encoding), bytes(64) + b"\x01\x02\0\x03" * 16

    assert len(decode_texts(text)) == 2 and "rien" in decode_texts(text)[1]
    assert read_file(io.BytesIO(text), len(text), ContentStore(io.BytesIO()), secrets=True).text
    assert decode_texts(numbers + b"\xff") == ()
    assert not read_file(io.BytesIO(numbers + b"\xff"), len(numbers), ContentStore(io.BytesIO()), secrets=True).text


def test_zero_byte_does_not_make_utf8_binary():
    """The check of the source reads such a file as text too; the last character examined may be cut."""
    text, large = "db\nmot clé: a\n\0".encode(), b"\0" * (HEAD - 1) + "é".encode()

    for content in (text, large):
        assert decode_texts(content)
        assert read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True).text
    for content in (b"\0\xff", b"\0\xc3"):
        assert not read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True).text


@pytest.mark.parametrize(
    ("name", "method", "form"),
    [
        ("Europe/Berlin", zipfile.ZIP_STORED, ""),
        ("Europe/Berlin", zipfile.ZIP_DEFLATED, "zip"),
        ("flask-0.1.dist-info/METADATA", zipfile.ZIP_STORED, "zip"),
        ("app/Main.class", zipfile.ZIP_STORED, "zip"),
    ],
)
def test_zip_archive_in_program_counts_only_if_it_can_hide_content(name, method, form):
    """A Go program may have the time zones in an archive that is not compressed, and is searched as it is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, b"x" * 100)
    content = ELF + bytes(2000) + buffer.getvalue() + bytes(file_content.TAIL)

    assert read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=False).archive == form


def png(chunk, content):
    """Return an empty PNG image with one extra chunk."""
    parts = [(chunk, content), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in parts
    )


def ar(*members):
    """Return an `ar` archive of members with these names and contents."""
    return b"!<arch>\n" + b"".join(
        name.ljust(16).encode()
        + b"0           0     0     644     "
        + f"{len(content):<10}`\n".encode()
        + content
        + b"\n" * (len(content) % 2)
        for name, content in members
    )


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (zipped()[: zipped().index(b"PK\x01\x02")], "zip"),
        (b"PK00" + zipped()[:80], "zip"),
        (zipped() + bytes(file_content.TAIL), "zip"),
        (b"\x1f\x9d\x90" + noise(80), "compress"),
        (b"LRZI\0\x06" + noise(80), "lrzip"),
        (b"\xff\x06\0\0sNaPpY" + noise(80), "snappy"),
        (b"\x23\x51-lh5-" + noise(80), "lha"),
        (b"\x60\xea\x2a\0\x1e\x0b" + noise(80), "arj"),
        (b"zPQ\x02\x01" + noise(80), "zpaq"),
        (b"7kSt\xa0\x31\x83\xd3\x8c\xb2\x28\xb0\xd3zPQ" + noise(80), "zpaq"),
        (b"vhdxfile" + noise(80), "disk image"),
        (ar(("evil.py/", b"print(1)")), "ar"),
        (ar(("/", bytes(4)), ("a.o/", ELF), ("evil.py/", b"print(1)")), "ar"),
        (ar(("#1/8", b"evil.py\0print(1)")), "ar"),
        (ar(("/", bytes(4)))[:-6] + b"x" * 90, "ar"),
        (gzip.compress(ar(("evil.py/", b"print(1)"))), "ar, gzip"),
        (ar(("a.o/", ELF + bytes(HEAD)), ("METADATA/", b"Name: django")), "ar"),
        (ar(("a.o/", ELF + bytes(file_content.CHUNK - len(ELF) - 150)), ("METADATA/", b"Name: django")), "ar"),
        (ar(("a.o/", ELF + bytes(3 * file_content.CHUNK)), ("b.o/", ELF), ("x/", b"y")), "ar"),
        (ar(("#1/9999", b"a.o".ljust(9999, b"\0") + ELF)), "ar"),
        (ar(("debian-binary", b"2.0\n")), "deb"),
    ],
    ids=lambda each: each if isinstance(each, str) else "file",  # compressed content has the time
)
def test_archive_is_found_by_its_beginning(content, form):
    """Programs unpack such a file, and syft does not."""
    assert kind(content) == form


@pytest.mark.parametrize(
    "content",
    [
        ar(),
        ar(("/", bytes(4)), ("//", b"a_long_name.o/\n"), ("/0", ELF), ("b.o/", b"BC\xc0\xde")),
        ar(("__.SYMDEF", bytes(4)), ("a.o", b"\xcf\xfa\xed\xfe")),
        ar(("#1/20", b"__.SYMDEF SORTED".ljust(20, b"\0") + bytes(4)), ("#1/12", b"a.o".ljust(12, b"\0") + ELF)),
        ar(("__.PKGDEF", b"go object linux amd64"), ("_go_.o", b"go object linux amd64")),
        ar(("/", bytes(HEAD)), ("a.o/", ELF)),
        ar(("a.o/", ELF + bytes(file_content.CHUNK - len(ELF) - 150)), ("b.o/", b""), ("c.o/", ELF)),
        b"#" * file_content.CHUNK + ar(("x/", b"y")),
        b"\x1f\x9dtext",
        b"a -lh- in a text",
        b"`\xea" + noise(80),
    ],
)
def test_static_library_is_no_archive(content):
    """Development packages have many static libraries."""
    assert kind(content) == ""


JAR = zipped("META-INF/MANIFEST.MF", more=["A.class", "B.class"])
AT, LENGTH = JAR.index(b"PK\x01\x02"), JAR.rindex(b"PK\x05\x06") - JAR.index(b"PK\x01\x02")
DECOY = JAR[:AT] + JAR[AT:][:LENGTH].replace(b"B.class", b"C.class") + JAR[AT:]


def wide(jar, **changes):
    """Return a zip archive with a zip64 end record and its locator (APPNOTE.TXT, 4.3.14 and 4.3.15)."""
    end = jar.rindex(b"PK\x05\x06")
    fields = {"here": 3, "entries": 3, "length": LENGTH, "offset": AT, "located": end, **changes}
    counts = b"".join(fields[each].to_bytes(8, "little") for each in ("here", "entries", "length", "offset"))
    record = b"PK\x06\x06" + (44).to_bytes(8, "little") + bytes(12) + counts
    locator = b"PK\x06\x07" + bytes(4) + fields["located"].to_bytes(8, "little") + (1).to_bytes(4, "little")
    return ended(jar[:end] + record + locator + jar[end:], 8, b"\xff" * 12)


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (JAR, "jar"),
        (ELF + JAR, "jar"),
        (ended(JAR, 20, b"\1\0") + b"c", "jar"),
        (wide(JAR), "jar"),
        (lambda: zipped("META-INF/MANIFEST.MF", more=[f"{n}.class" for n in range(65_536)]), "jar"),
        (ended(JAR, 8, bytes(4)), "zip"),
        (ended(JAR, 8, b"\2\0\2\0"), "zip"),
        (ended(JAR, 8, b"\3\0\2\0"), "zip"),
        (ended(JAR, 4, b"\1\0"), "zip"),
        (ended(JAR, 6, b"\1\0"), "zip"),
        (ended(JAR, 12, bytes(4)), "zip"),
        (ended(JAR, 12, (LENGTH + 1).to_bytes(4, "little")), "zip"),
        (JAR + b"c", "zip"),
        (ended(JAR, 20, b"\2\0") + b"c", "zip"),
        (ended(ELF + DECOY, 16, (len(ELF) + AT).to_bytes(4, "little")), "zip"),
        (wide(JAR, entries=0), "zip"),
        (wide(JAR, here=0), "zip"),
        (wide(JAR, length=LENGTH - 1), "zip"),
        (wide(JAR, located=5), "zip"),
        (ended(wide(JAR), 8, b"\2\0\2\0"), "zip"),
    ],
)
def test_java_archive_counts_only_if_all_readers_agree(content, form):
    """Java runs some archives whose end record has wrong counts, and syft does not open them."""
    assert kind(content() if callable(content) else content) == form


@pytest.mark.parametrize(
    ("inner", "form"), [(JAR, "jar"), (ended(JAR, 8, bytes(4)), "zip"), (b"PK\x05\x06" * 9, "jar")]
)
def test_archive_that_is_stored_in_a_java_archive_is_counted_too(inner, form):
    """Frameworks run Java archives that are stored in others."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", b"")
        archive.writestr("BOOT-INF/lib/a.jar", inner)

    assert kind(buffer.getvalue()) == form


def deflated(*texts, method=zipfile.ZIP_DEFLATED, name="META-INF/MANIFEST.MF", descriptor=False):
    buffer = io.BytesIO()
    with zipfile.ZipFile(Unseekable(buffer) if descriptor else buffer, "w", method) as archive:
        for number, text in enumerate(texts):
            archive.writestr(f"{name}{number or ''}", text)
    return buffer.getvalue()


class Unseekable(io.RawIOBase):
    """Stream without seek, so that a zip archive has the sizes after the content."""

    def __init__(self, target):
        self._target = target

    def writable(self):
        return True

    def write(self, data):
        return self._target.write(data)


TEXT = b"many words, so that it is worth it; " * 100 + b"\n" + TOKEN + b"\n"
PACKED = {
    "gzip": gzip.compress(TEXT),
    "bzip2": bz2.compress(TEXT),
    "xz": lzma.compress(TEXT),
    "lzma": lzma.compress(TEXT, format=lzma.FORMAT_ALONE),
    "zstd": zstandard.compress(TEXT),
    "twice": gzip.compress(bz2.compress(TEXT)),
    "after much": gzip.compress(b"x" * (UNPACKED - len(TEXT) - 1) + b"\n" + TEXT),
    "utf-16": gzip.compress(TEXT.decode().encode("utf-16-le")),
    "entry": deflated(b"", TEXT),
    "entry of unknown size": deflated(b"x" * 1000, TEXT, descriptor=True),
    "entry after a large one": deflated(noise(3 * UNPACKED), TEXT),
    "entry of an archive in an archive": deflated(deflated(TEXT), method=zipfile.ZIP_STORED),
    "entry between two pieces": noise(file_content.CHUNK - 40) + deflated(TEXT),
    "entry with names between two pieces": noise(file_content.CHUNK - 2000) + deflated(TEXT, name="n" * 4000),
    "entry after what only begins as one": deflated(b"")[:30] + b"\xff" * 100 + deflated(TEXT),
    "zTXt": png(b"zTXt", b"Comment\0\0" + zlib.compress(TEXT)),
    "iTXt": png(b"iTXt", b"Comment\0\x01\0en\0Kommentar\0" + zlib.compress(TEXT)),
}


@pytest.mark.parametrize("content", PACKED.values(), ids=PACKED)
def test_secret_in_compressed_content_is_found(content):
    """The line is counted in the unpacked content."""
    assert TOKEN not in content
    found = read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True)

    assert found.secrets == ()
    assert [kind for _, kind in found.packed] == ["GitHub token"]
    assert read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=False).packed == ()


def test_private_key_in_java_class_is_ignored():
    """The netty library contains such a key; in any other file it belongs to the application."""
    key = b"-----BEGIN " + b"PRIVATE KEY-----\n" + b"MIIE" * 16

    assert kinds(deflated(key + TOKEN, name="io/netty/OpenSsl.class")) == {"GitHub token"}
    assert kinds(deflated(b"x", key + TOKEN, name="x.class")) == {PEM, "GitHub token"}


def test_unpacking_stops_at_the_search_limit():
    """The limit applies to compressed files and to each entry of an archive."""
    many = b"x" * UNPACKED
    for content in (gzip.compress(many + b"\n" + TOKEN), deflated(many + b"\n" + TOKEN)):
        assert kinds(content) == set()


@pytest.mark.parametrize("before", [0, 1, file_content.CHUNK - 20, file_content.CHUNK, 3 * file_content.CHUNK - 5])
def test_secret_across_two_chunks_is_found_on_its_line(before):
    """A file is read in chunks."""
    content = b"\n" * before + TOKEN + b"\n" * 100

    found = read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True)

    assert found.secrets == ((before + 1, "GitHub token"),)
    assert read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=False).secrets == ()


@pytest.mark.parametrize(("first", "size"), [(b"\0\0\xff", 1024**2), (b"x", 17 * 1024**2)], ids=["binary", "text"])
def test_large_file_is_searched_to_its_end(first, size):
    """Padding must not hide a secret behind it."""
    content = first * size + b" " + TOKEN

    found = read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True)

    assert (found.secrets, found.text) == (((1, "GitHub token"),), first == b"x")


def test_many_secrets_of_one_kind_do_not_hide_another_kind():
    """Private keys may be the examples of a package; a token behind them is not."""
    key = b"-----BEGIN " + b"PRIVATE KEY-----\n" + b"MIIE" * 16 + b"\n"
    content = key * (2 * MOST_SECRETS) + TOKEN

    found = read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True).secrets

    assert len(found) == MOST_SECRETS + 1 and found[-1][1] == "GitHub token"


NODE = b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:"
BUNDLE = file_content.BUNDLE
BUN, DENO = b"\n---- Bun! ----\n", b"d3n0l4nd"


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (NODE + b"1", "Node.js application"),
        (NODE + b"0", ""),
        ((4096).to_bytes(8, "little") + BUNDLE, ".NET application"),
        (bytes(8) + BUNDLE + bytes(7) + b"x" + BUNDLE, ".NET application"),
        (bytes(file_content.CHUNK - len(ELF) - 20) + b"x" + bytes(7) + BUNDLE, ".NET application"),
        (bytes(8) + BUNDLE, ""),
        (BUN + bytes(8), "Bun application"),
        (BUN + bytes(file_content.TAIL), ""),
        (DENO + bytes(32), "Deno application"),
        (DENO + bytes(file_content.TAIL), ""),
    ],
    ids=range(10),
)
def test_program_with_embedded_application_is_an_archive(content, form):
    """The plain program contains the same marker with another value, or in another place."""
    assert kind(ELF + content) == form
    assert kind(b"#" + content) == ""
