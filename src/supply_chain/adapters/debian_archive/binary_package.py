"""The files in a Debian binary package (deb(5)). Nothing is unpacked to the disk."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, cast

import zstandard

from supply_chain.adapters.image.ar_members import AR, HEADER
from supply_chain.adapters.image.compression import LARGEST_WINDOW
from supply_chain.adapters.image.debian_packages import is_code
from supply_chain.adapters.image.streams import BoundedStream, ForwardStream

MOST_FILES, MOST_BYTES = 200_000, 4 * 1024**3
"""Maximum entries of a package that are read, and their maximum bytes."""
CHUNK = 1024 * 1024
INVALID = (
    tarfile.TarError, lzma.LZMAError, zlib.error, zstandard.ZstdError, OSError, EOFError, ValueError, KeyError,
)  # fmt: skip
"""Errors that reading an invalid package can raise."""


@dataclass(frozen=True)
class PackageFiles:
    """Files of a package by their path, which begins with a slash."""

    digests: dict[str, bytes] = field(default_factory=dict)
    """Path → SHA-256 of each regular file."""
    code: frozenset[str] = frozenset()
    """Paths of programs, libraries and scripts."""
    links: dict[str, str] = field(default_factory=dict)
    """Path of each symbolic link with the name of code → its target."""


def read_binary_package(package: IO[bytes]) -> PackageFiles:
    """Return the files in a package; raise one of `INVALID`."""
    with _open_data(package) as stream:
        tar = tarfile.open(fileobj=BoundedStream(cast(Any, ForwardStream(stream))), mode="r:")  # type: ignore[call-overload] # noqa: SIM115
        return _read_members(tar)


def _read_members(tar: tarfile.TarFile) -> PackageFiles:
    digests, code, links = dict[str, bytes](), set[str](), dict[str, str]()
    number, room = 0, MOST_BYTES
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        number += 1
        room -= member.size
        if room < 0 or number > MOST_FILES:
            raise ValueError(f"it has more than {MOST_FILES} files or {MOST_BYTES} bytes")
        path = _absolute(member.name)
        if member.isreg():
            digests[path], start = _digest(tar, member)
            code |= {path} if is_code(path, start) else set()
        elif member.islnk():
            target = _absolute(member.linkname)
            digests[path] = digests[target]
            code |= {path} if target in code else set()
        elif member.issym() and is_code(path, b""):
            links[path] = member.linkname
    file = cast("IO[bytes]", tar.fileobj)
    file.seek(tar.offset)  # the library takes an unreadable header for the end
    if file.read(tarfile.BLOCKSIZE) not in (b"", tarfile.NUL * tarfile.BLOCKSIZE):
        raise ValueError("its files are damaged in the middle")
    return PackageFiles(digests, frozenset(code), links)


def _digest(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[bytes, bytes]:
    """Return the SHA-256 of a file, and its first four bytes."""
    digest, start, size = hashlib.sha256(), b"", 0
    stream = tar.extractfile(member)
    while stream is not None and (chunk := stream.read(CHUNK)):
        start = start or chunk[:4]
        size += len(chunk)
        digest.update(chunk)
    if size != member.size:
        raise EOFError("it ends in a file")
    return digest.digest(), start


def _absolute(name: str) -> str:
    if ".." in name.split("/"):
        raise ValueError(f"it has a path that leads upward: {name[:200]!r}")
    return posixpath.normpath(f"/{name.lstrip('/')}")


@contextmanager
def _open_data(package: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield the unpacked tar of a package's files."""
    package.seek(0)
    if package.read(len(AR)) != AR:
        raise ValueError("it is not a package")
    for name, size in _list_ar(package):
        if name.startswith("data.tar"):
            with _unpack(_Part(package, size), name.removeprefix("data.tar")) as stream:
                yield stream
            return
    raise ValueError("it has no data.tar")


def _list_ar(package: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Yield the name and size of each member; the position is at its content."""
    at = len(AR)
    while header := package.read(HEADER):
        size = header[48:58].strip()
        if len(header) != HEADER or header[58:] != b"`\n" or not size.isdigit():
            raise ValueError("it has an invalid header")
        yield header[:16].decode("ascii", "replace").strip().rstrip("/"), int(size)
        at += HEADER + int(size) + int(size) % 2
        package.seek(at)


class _Part:
    """A part of a file, from its position on."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        """Read at most what is left of the part."""
        content = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(content)
        return content


@contextmanager
def _unpack(packed: _Part, form: str) -> Iterator[IO[bytes]]:
    if form == ".xz":
        yield cast("IO[bytes]", UnpackedXz(cast("IO[bytes]", packed)))
    elif form == ".gz":
        with gzip.GzipFile(fileobj=cast("IO[bytes]", packed)) as stream:
            yield cast("IO[bytes]", stream)
    elif form == ".zst":
        unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        with unpacker.stream_reader(cast("IO[bytes]", packed), read_across_frames=True, closefd=False) as zstd:
            yield cast("IO[bytes]", zstd)
    elif not form:
        yield cast("IO[bytes]", packed)
    else:
        raise ValueError(f"its files are in data.tar{form}")


class UnpackedXz:
    """Unpacked content of one or several xz streams; it needs at most `LARGEST_WINDOW` bytes of memory."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._unpacker = packed, _make_unpacker()

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; none at the end. Raises `EOFError` if a stream is cut."""
        while True:
            if self._unpacker.eof:
                packed = (self._unpacker.unused_data or self._packed.read(CHUNK)).lstrip(b"\0")
                if not packed:
                    return b""
                self._unpacker = _make_unpacker()
            else:
                packed = self._packed.read(CHUNK) if self._unpacker.needs_input else b""
                if self._unpacker.needs_input and not packed:
                    raise EOFError("it ends in a compressed stream")
            if content := self._unpacker.decompress(packed, size):
                return content


def _make_unpacker() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_WINDOW)
