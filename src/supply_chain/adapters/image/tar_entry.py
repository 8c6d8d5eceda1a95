"""Entries of a layer, restricted to those that Python's `tarfile` and Go's `archive/tar` (containerd) read alike.

The two differ about headers that neither POSIX (pax, "ustar Interchange Format") nor GNU describes, about sparse files,
and about several headers for one entry. No tool that builds images writes those, and a layer with one is refused.
"""

from __future__ import annotations

import re
import tarfile
from typing import Any

from supply_chain.adapters.image.filesystem import LayerInvalid

NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (329, 337), (337, 345))
"""Positions in a header of mode, user, group, size and the two device numbers."""
_NUMBER = re.compile(rb" *[0-7]*[ \0]*|\x80.+", re.DOTALL)
_RECORD = re.compile(rb"(\d{1,7}) [^=]+=")
_HEADERS = re.compile(rb".(?:x|L|K|LK|KL)?g*", re.DOTALL)
EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""Types of headers that describe the next entry."""


class Entry(tarfile.TarInfo):
    """Tar entry whose headers are checked one by one; the archive's file object needs a method `unread`."""

    headers = b""
    """Type of the entry, followed by the types of the headers before it, the nearest first."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Entry:
        """Parse a header of 512 bytes; raise `LayerInvalid` if Go parses it differently."""
        entry = super().frombuf(buf, encoding, errors)
        if not _is_plain(bytes(buf)):
            raise LayerInvalid(f"it has a header that engines read otherwise, of {entry.name!r}")
        return entry

    def _proc_member(self, archive: Any) -> Entry:
        """Read what belongs to this header, and the next headers up to an entry.

        `tarfile` lets subclasses override this method.
        """
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
        """Raise `LayerInvalid` if Go makes a different entry of all these headers."""
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
    """Return whether a header has the POSIX or GNU format, and is clearly a file or clearly a directory."""
    name, kind, magic = header[:100].partition(b"\0")[0], header[156:157], header[257:265]
    posix, gnu = magic[:6] == b"ustar\0" and header[508:] != b"tar\0", magic == b"ustar  \0" and not header[345]
    return (
        (posix or gnu)
        and not (kind == tarfile.AREGTYPE and name.endswith(b"/"))
        and all(_NUMBER.fullmatch(header[start:end]) for start, end in NUMBERS)
    )


def _is_records(content: bytes) -> bool:
    """Return whether the content consists only of records, `length keyword=value` and a newline each.

    Format: POSIX, "pax Header Block".
    """
    at = 0
    while at < len(content):
        record = _RECORD.match(content, at)
        end = at + int(record[1]) if record else at
        if record is None or end < record.end() + 1 or content[end - 1 : end] != b"\n":
            return False
        at = end
    return at == len(content)
