"""The files that a wheel installs among the packages (PyPA, "Binary distribution format")."""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import IO

from supply_chain.adapters.image.package_records import LARGEST_RECORD, parse_record

RECORD = re.compile(r"[^/]+\.dist-info/RECORD")
DATA = re.compile(r"[^/]+\.data/(?:purelib|platlib)/")
"""Beginning of the path of a file in a wheel that is installed among the packages."""
INVALID_WHEEL = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError, RuntimeError,
)  # fmt: skip
"""Errors that reading an invalid wheel can raise."""


def read_wheel(wheel: IO[bytes]) -> dict[str, bytes]:
    """Return path below the directory of packages → SHA-256 of the files that a wheel installs there.

    Only the end of the wheel is read: its list of files, and the record. Raises one of `INVALID_WHEEL`.
    """
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (each for each in archive.infolist() if RECORD.fullmatch(each.filename))
        if record.file_size > LARGEST_RECORD:
            raise ValueError(f"its record has {record.file_size} bytes")
        listed = parse_record(archive.read(record), "/")
    return {DATA.sub("", path[1:], count=1): digest for path, digest in listed.items()}
