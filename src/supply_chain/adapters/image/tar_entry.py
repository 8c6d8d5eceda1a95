"""The entries of a layer, as far as Python's `tarfile` and Go's `archive/tar`, which containerd uses, read the same.

The two differ about headers that neither POSIX (pax, "ustar Interchange Format") nor GNU describes, about sparse
files, and about several headers for one entry. No tool that makes images writes those, and a layer with one is refused.
"""

from __future__ import annotations

import re
import tarfile
from typing import Any

from supply_chain.adapters.image.filesystem import LayerInvalid

NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (329, 337), (337, 345))
"""Where a header has its mode, user, group, size and device."""
_NUMBER = re.compile(rb" *[0-7]*[ \0]*|\x80.+", re.DOTALL)
_RECORD = re.compile(rb"(\d{1,7}) [^=]+=")
_HEADERS = re.compile(rb".(?:x|L|K|LK|KL)?g*", re.DOTALL)
EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""The types of headers that tell of the next entry."""


class Entry(tarfile.TarInfo):
    """An entry whose headers are read one by one; the archive's file has to have `unread`."""

    headers = b""
    """Its type, and those of the headers before it, backwards."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Entry:
        """Read a header of 512 bytes; `LayerInvalid` where Go reads it otherwise."""
        entry = super().frombuf(buf, encoding, errors)
        if not _is_plain(bytes(buf)):
            raise LayerInvalid(f"it has a header that engines read otherwise, of {entry.name!r}")
        return entry

    def _proc_member(self, archive: Any) -> Entry:
        """Read what belongs to this header, and the next ones up to an entry: `tarfile`'s place for subclasses."""
        if self.type in EXTENSIONS:
            content = archive.fileobj.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
            archive.fileobj.unread(content)
            pax = self.type in (tarfile.XHDTYPE, tarfile.XGLTYPE)
            if content[self.size :].strip(b"\0") or (pax and not _is_records(content[: self.size])):
                raise LayerInvalid("it has an extended header that engines read otherwise")
        entry: Entry = super()._proc_member(archive)  # type: ignore[misc]
        entry.headers += self.type
        return entry

    def check(self) -> None:
        """Raise `LayerInvalid` where Go makes another entry of all these headers."""
        name = self.pax_headers.get("path", self.name)
        if not _HEADERS.fullmatch(self.headers):
            raise LayerInvalid("it has several headers for one entry")
        if any(key.startswith("GNU.sparse.") for key in self.pax_headers):
            raise LayerInvalid("it has a sparse file")
        if any(key in tarfile.PAX_FIELDS and not value for key, value in self.pax_headers.items()) or self.size < 0:
            raise LayerInvalid("it has an extended header with an empty value, or a negative size")
        if self.isreg() and (name.endswith("/") or self.name.endswith("/")):
            raise LayerInvalid("it has a file whose name is a directory's")


def _is_plain(header: bytes) -> bool:
    """Whether a header is one of POSIX or GNU, and tells of a file or of a directory, not of either."""
    name, kind, magic = header[:100].partition(b"\0")[0], header[156:157], header[257:265]
    posix, gnu = magic[:6] == b"ustar\0" and header[508:] != b"tar\0", magic == b"ustar  \0" and not header[345]
    return (
        (posix or gnu)
        and not (kind == tarfile.AREGTYPE and name.endswith(b"/"))
        and all(_NUMBER.fullmatch(header[start:end]) for start, end in NUMBERS)
    )


def _is_records(content: bytes) -> bool:
    """Whether it is nothing but records, each `length keyword=value` and a newline (POSIX, "pax Header Block")."""
    at = 0
    while at < len(content):
        record = _RECORD.match(content, at)
        end = at + int(record[1]) if record else at
        if record is None or end < record.end() + 1 or content[end - 1 : end] != b"\n":
            return False
        at = end
    return at == len(content)
