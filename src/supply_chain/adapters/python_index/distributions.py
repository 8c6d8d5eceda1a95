"""The files in source distributions (PyPA, "Source distribution format")."""

from __future__ import annotations

import hashlib
import lzma
import posixpath
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from supply_chain.adapters.image.wheel import INVALID_WHEEL

MOST_FILES, MOST_BYTES = 200_000, 2 * 1024**3
"""Maximum files of a source distribution that are read, and their maximum bytes."""
INVALID = (*INVALID_WHEEL, tarfile.TarError, lzma.LZMAError)
"""Errors that reading an invalid archive can raise."""


def read_source(source: Path) -> dict[str, bytes]:
    """Return path below its first directory → SHA-256 of each file in a source distribution; raise one of `INVALID`."""
    digests, room = dict[str, bytes](), MOST_BYTES
    for number, (name, size, read) in enumerate(_list_members(source), start=1):
        room -= size
        if room < 0 or number > MOST_FILES:
            raise ValueError(f"it has more than {MOST_FILES} files or {MOST_BYTES} bytes")
        digest = hashlib.sha256()
        with read() as file:
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
        digests[posixpath.normpath(name).partition("/")[2]] = digest.digest()
    return digests


def _list_members(source: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    """Yield the name and size of each file, and what opens it."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, entry.file_size, lambda entry=entry: archive.open(entry)  # type: ignore[misc]
        return
    with tarfile.open(source) as tar:
        for member in tar:
            if member.isfile():
                yield member.name, member.size, lambda member=member: tar.extractfile(member)  # type: ignore[misc]
