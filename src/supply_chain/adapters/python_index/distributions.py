"""The files in wheels and source distributions (PyPA, "Binary distribution format", "Source distribution format")."""

from __future__ import annotations

import hashlib
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from supply_chain.adapters.image.package_records import LARGEST_RECORD, parse_record

RECORD = re.compile(r"[^/]+\.dist-info/RECORD")
DATA = re.compile(r"[^/]+\.data/(?:purelib|platlib)/")
"""Beginning of the path of a file in a wheel that is installed among the packages."""
MOST_FILES, MOST_BYTES = 200_000, 2 * 1024**3
"""Maximum files of a source distribution that are read, and their maximum bytes."""
INVALID = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError,
    ValueError, RuntimeError,
)  # fmt: skip
"""Errors that reading an invalid archive can raise."""


def read_wheel(wheel: IO[bytes]) -> dict[str, bytes]:
    """Return path below the directory of packages → SHA-256 of the files that a wheel installs there.

    Only the end of the wheel is read: its list of files, and the record. Raises one of `INVALID`.
    """
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (each for each in archive.infolist() if RECORD.fullmatch(each.filename))
        if record.file_size > LARGEST_RECORD:
            raise ValueError(f"its record has {record.file_size} bytes")
        listed = parse_record(archive.read(record), "/")
    return {DATA.sub("", path[1:], count=1): digest for path, digest in listed.items()}


def read_source(source: Path) -> frozenset[bytes]:
    """Return the SHA-256 of each file in a source distribution; raise one of `INVALID`."""
    digests, room = set[bytes](), MOST_BYTES
    for number, (size, read) in enumerate(_list_members(source), start=1):
        room -= size
        if room < 0 or number > MOST_FILES:
            raise ValueError(f"it has more than {MOST_FILES} files or {MOST_BYTES} bytes")
        digest = hashlib.sha256()
        with read() as file:
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
        digests.add(digest.digest())
    return frozenset(digests)


def _list_members(source: Path) -> Iterator[tuple[int, Callable[[], IO[bytes]]]]:
    """Yield the size of each file, and what opens it."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.file_size, lambda entry=entry: archive.open(entry)  # type: ignore[misc]
        return
    with tarfile.open(source) as tar:
        for member in tar:
            if member.isfile():
                yield member.size, lambda member=member: tar.extractfile(member)  # type: ignore[misc]
