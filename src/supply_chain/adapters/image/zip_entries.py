"""Reader of the directories of zip archives, wherever they are in a file."""

from __future__ import annotations

from typing import NamedTuple

from supply_chain.adapters.image.patterns import compile_alternatives, compile_linear_pattern

MOST_ZIP_ENTRIES = 1_000_000
"""Maximum zip entries of a file that are recorded; a file with more entries and an end record is an archive."""
LONGEST_ZIP_NAME = 2048
"""Maximum bytes of a zip entry's name that are read."""
ZIP_STARTS = (b"PK\x03\x04", b"PK00PK\x03\x04", b"PK\x07\x08PK\x03\x04")
"""Beginning of a zip archive; some readers open one without a directory (APPNOTE.TXT, 4.3.7 and 8.5.4)."""
ZIP_ENTRY, ZIP_ENDS = b"PK\x01\x02", (b"PK\x05\x06", b"PK\x06\x06")
"""Signatures of an entry in a zip archive's central directory, and of the records that may follow the last one."""
STORED = b"\0\0"
"""Method of an entry that is not compressed."""
JAVA_METHODS = (STORED, b"\x08\0")
"""Methods of compression that syft unpacks: none and deflate."""
_ZIP_RECORD = compile_alternatives(ZIP_ENTRY, *ZIP_ENDS)
ZIP64_ENDS, END = 56 + 20, 22
"""Bytes of the zip64 end record with its locator, and of the end record without its comment (4.3.14 to 4.3.16)."""


class ZipEntries:
    """Entries of the central directories of zip archives (APPNOTE.TXT, 4.3.12), collected while a file is read.

    Whether a file is an archive does not depend on the counts and comments in an end record, because some readers
    accept an archive whatever they are. Others do not open one whose counts are wrong.
    """

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        """Where an entry begins → where it ends; 0 if that is not read yet."""
        self._records: dict[int, bytes] = {}
        """Where an end record begins → the record, with the `ZIP64_ENDS` bytes before it."""
        self._others = self._many = False
        self._hiding: set[int] = set()
        """Where an entry begins that is compressed or encrypted, or named like code or a package. Others, such as the
        time zones in a Go program, are searched where they are.
        """
        self._begins: dict[int, int] = {}
        """Where an entry ends → where it begins."""
        self.hidden = False
        """Whether such an entry is in a directory with an end record, anywhere in the file."""

    @property
    def java(self) -> bool:
        """Whether all entries could be read and each is what scanners judge in a Java archive."""
        return bool(self._places) and not self._others and not self._many

    def search(self, piece: bytes, place: int) -> None:
        """Find the entries in a piece of the file that begins at `place`; the next piece overlaps this one."""
        for match in _ZIP_RECORD.finditer(piece):
            at = match.start()
            if match.group() in ZIP_ENDS:
                self.hidden = self.hidden or self._hides(place + at)
                if match.group() == ZIP_ENDS[0] and at + END <= len(piece):
                    self._records.setdefault(place + at, piece[max(0, at - ZIP64_ENDS) : at + END])
                continue
            if max(len(self._places), len(self._records)) >= MOST_ZIP_ENTRIES:
                self._many = True
                return
            self._places.setdefault(place + at, 0)
            name, extra, comment = (int.from_bytes(piece[at + n : at + n + 2], "little") for n in (28, 30, 32))
            if at + 46 + min(name, LONGEST_ZIP_NAME) <= len(piece):
                self._places[place + at] = place + at + 46 + name + extra + comment
                self._begins[self._places[place + at]] = place + at
                encrypted, method = piece[at + 8] & 1, piece[at + 10 : at + 12]
                label = piece[at + 46 : at + 46 + name]
                self._others = self._others or bool(encrypted) or method not in JAVA_METHODS
                self._others = self._others or name > LONGEST_ZIP_NAME or _is_foreign(label)
                if encrypted or method != STORED or _is_foreign(label) or _CODE.search(label):
                    self._hiding.add(place + at)

    def _hides(self, place: int) -> bool:
        """Return whether an entry of the directory that ends at a place hides something."""
        while (begin := self._begins.get(place)) is not None:
            if begin in self._hiding:
                return True
            place = begin
        return False

    def end_in(self, tail: bytes, size: int) -> bool:
        """Return whether a file ends with a zip archive's end record and has the directory that belongs to it.

        The directory is where the record says, or directly before the record. `tail` is the end of the file, `size` its
        size. A zip64 archive has another record directly before the end record (4.3.15).
        """
        at = tail.rfind(ZIP_ENDS[0])
        while at >= 0:
            place, length = size - len(tail) + at, int.from_bytes(tail[at + 12 : at + 16], "little")
            offset = int.from_bytes(tail[at + 16 : at + 20], "little")
            if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07") or place in self._begins:
                return True
            if self._many or {place - length, offset} & self._places.keys():
                return True
            at = tail.rfind(ZIP_ENDS[0], 0, at)
        return False

    def are_counted(self, tail: bytes, size: int) -> bool:
        """Return whether all readers find the same directory: the counts and sizes in each end record are right.

        Archives that are stored in this one count too. `tail` is the end of the file, `size` its size.
        """
        at = tail.rfind(ZIP_ENDS[0])
        record, place = tail[at : at + END], size - len(tail) + at
        if at < 0 or len(record) < END or at + END + int.from_bytes(record[20:22], "little") != len(tail):
            return False
        end = read_zip_end(self._records.get(place, b""))
        begin = place - end.before - end.length if end else -1
        if end is None or begin not in self._places or (begin != end.offset and end.offset in self._places):
            return False
        return all(self._is_counted(each, record) for each, record in self._records.items())

    def _is_counted(self, place: int, record: bytes) -> bool:
        """Return whether an end record has the counts and the size of the directory before it, if there is one."""
        end = read_zip_end(record)
        if end is None:
            return not self._begins.keys() & {place, place - ZIP64_ENDS}
        after, many = place - end.before, 0
        at = after - end.length
        if at not in self._places and after not in self._begins:
            return True
        while (next_at := self._places.get(at, 0)) > at:
            at, many = next_at, many + 1
        return at == after and many == end.entries > 0


class ZipEnd(NamedTuple):
    """What the end record of a zip archive says about the directory."""

    before: int
    """Bytes between the directory and the end record."""
    entries: int
    length: int
    offset: int


def read_zip_end(record: bytes) -> ZipEnd | None:
    """Return what an end record says; None if its fields contradict each other.

    `record` is the end record and the `ZIP64_ENDS` bytes before it.
    """
    more, record = record[:-END], record[-END:]
    here, entries = (int.from_bytes(record[at : at + 2], "little") for at in (8, 10))
    length, offset = (int.from_bytes(record[at : at + 4], "little") for at in (12, 16))
    if here != entries or any(record[4:8]):
        return None
    if more[-20:-16] != b"PK":
        return ZipEnd(0, entries, length, offset)
    wide_here, *wide = (int.from_bytes(more[at : at + 8], "little") for at in (24, 32, 40, 48))
    end, located = ZipEnd(ZIP64_ENDS, *wide), int.from_bytes(more[-12:-4], "little")
    same = (
        entries in (end.entries, 2**16 - 1)
        and length in (end.length, 2**32 - 1)
        and offset in (end.offset, 2**32 - 1)
        and wide_here == end.entries
    )
    intact = more[:12] == ZIP_ENDS[1] + (ZIP64_ENDS - 32).to_bytes(8, "little")
    return end if same and intact and located == end.offset + end.length else None


_FOREIGN = compile_linear_pattern(
    rb"(?i)(\.(7z|apk|asar|cab|cpio|crate|deb|egg|gem|iso|nupkg|phar|pyc?|pyz|rar|rpm|squashfs|t[bglx]z|tbz2|tzst|whl|zip)"
    rb"|\.tar(\.(bz2|gz|lzma|xz|zst))?|(^|/)package\.json)$|\.(dist|egg)-info/|(^|/)node_modules/"
)
"""Names of Python's and npm's packages, and of archives that are not Java's."""
_CODE = compile_linear_pattern(rb"(?i)\.(class|dll|exe|jar|js|php|pl|rb|sh|so|war)$|^META-INF/")
"""Other names of code."""


def _is_foreign(name: bytes) -> bool:
    return bool(_FOREIGN.search(name))
