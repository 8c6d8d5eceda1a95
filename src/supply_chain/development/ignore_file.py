"""What an ignore file can include again (`!`) below a directory that it ignores."""

from __future__ import annotations

import posixpath
import re

PLAIN = re.compile(rb"[\w./-]+", re.ASCII)
"""Patterns in which every character stands for itself."""


def can_reinclude(ignore: bytes, directory: str) -> bool:
    """Return whether a pattern of the ignore file may include a path below an ignored directory again.

    A pattern without special characters includes only its own path and what is below that. If it included `directory`
    or a directory above, the ignore file would not have ignored `directory`. True for every other pattern.
    """
    below = f"{directory}/".encode("utf-8", "surrogateescape")
    patterns = [line.strip()[1:] for line in ignore.split(b"\n") if b"!" in line]
    return any(not PLAIN.fullmatch(each) or _normalized(each).startswith(below) for each in patterns)


def _normalized(pattern: bytes) -> bytes:
    """Return a plain pattern as a path relative to the context."""
    return posixpath.normpath(b"/" + pattern).lstrip(b"/")
