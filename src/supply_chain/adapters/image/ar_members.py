"""Members of an `ar` archive: a static library's objects, or other files."""

from __future__ import annotations

import re

AR, HEADER = b"!<arch>\n", 60
"""Beginning of an `ar` archive, and the bytes of a member's header."""
TABLES = (b"/", b"//", b"/SYM64/", b"__.SYMDEF", b"__.SYMDEF SORTED", b"__.PKGDEF", b"debian-binary")
"""Members of a static library that are not objects, and the first of a Debian package, which has its own format."""
OBJECTS = (b"\x7fELF", b"BC\xc0\xde", b"\xde\xc0\x17\x0b", b"\0asm", b"go object ", b"\0\0\xff\xff", b"\x64\x86",
           b"\x4c\x01", b"\x64\xaa", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"rust")  # fmt: skip
"""Beginning of an object in a static library: ELF, LLVM, WebAssembly, Go, COFF, Mach-O, and Rust's metadata."""
LONGEST_NAME, START = 1024, 64
"""Maximum bytes of a member's name, and bytes of its content that identify it."""
AHEAD = HEADER + LONGEST_NAME + START


class ArMembers:
    """Looks at the members of a file while it is read."""

    foreign = False
    """Whether the file is an `ar` archive of other files than a static library has."""

    def __init__(self) -> None:
        self._next = 0

    def search(self, piece: bytes, place: int, *, end: bool) -> None:
        """Look at the members in a piece of the file at `place`; the next piece overlaps it by at least `AHEAD` bytes.

        With `end`, the file ends with this piece.
        """
        if not self._next:
            self._next = len(AR) if piece.startswith(AR) and not place else -1
        while self._next > 0 and not self.foreign:
            at = self._next - place
            if at + (HEADER + 1 if end else AHEAD) > len(piece):
                return
            self._look(piece[at : at + AHEAD])

    def _look(self, member: bytes) -> None:
        name, length = member[:16].rstrip(b" "), member[48:58].rstrip(b" ")
        extended = int(name[3:]) if re.fullmatch(rb"#1/\d+", name) else 0
        if not length.isdigit() or extended > LONGEST_NAME:
            self.foreign = True
            return
        begin = HEADER + extended
        name = member[HEADER:begin].rstrip(b"\0") if extended else name
        content = member[begin : HEADER + min(int(length), extended + START)]
        self.foreign = bool(name not in TABLES and content and not content.startswith(OBJECTS))
        self._next += HEADER + int(length) + int(length) % 2


def is_foreign_ar(head: bytes) -> bool:
    """Return whether a file is an `ar` archive of other files than a static library has, as far as `head` shows."""
    members = ArMembers()
    members.search(head, 0, end=True)
    return members.foreign
