"""What an ignore file can include again (`!`) below a directory that it ignores."""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_left
from functools import lru_cache

PLAIN = re.compile(rb"[\w./-]+", re.ASCII)
"""Patterns in which every character stands for itself."""


def can_reinclude(ignore: bytes, directory: str) -> bool:
    """Return whether a pattern of the ignore file may include a path below an ignored directory again.

    A pattern without special characters includes only its own path and what is below that. If it included `directory`
    or a directory above, the ignore file would not have ignored `directory`. True for every other pattern.
    """
    included = _included_paths(ignore)
    if included is None:
        return True
    below = f"{directory}/".encode("utf-8", "surrogateescape")
    first = bisect_left(included, below)
    return first < len(included) and included[first].startswith(below)


@lru_cache(maxsize=4)
def _included_paths(ignore: bytes) -> tuple[bytes, ...] | None:
    """Return the paths that plain patterns include again, sorted; None if another pattern includes something.

    The result is cached: this is asked about each ignored directory.
    """
    patterns = [line.strip()[1:] for line in ignore.split(b"\n") if b"!" in line]
    if not all(PLAIN.fullmatch(each) for each in patterns):
        return None
    return tuple(sorted(map(_normalized, patterns)))


def _normalized(pattern: bytes) -> bytes:
    """Return a plain pattern as a path relative to the context."""
    return posixpath.normpath(b"/" + pattern).lstrip(b"/")
