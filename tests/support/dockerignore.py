"""A stand-in for BuildKit's matcher of `.dockerignore`, in memory: what it leaves out of a context."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from supply_chain.errors import SourceInvalid

TOKEN = re.compile(r"\*\*/?|\*|\?|\[[^\]]*\]|\\.|[^*?\[\\]+|.", re.DOTALL)
UNCLEAR = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]|\r(?!\n|$)|\[[^\]]*\[")
"""What Python and the builder's Go take differently."""
WILD = re.compile(r"[*?\[\]\\]")


def ignored(ignore: bytes, paths: Sequence[str]) -> frozenset[str]:
    """See `development.snapshot.IgnoreMatcher`."""
    patterns = _patterns(ignore)
    verdicts: dict[str, tuple[bool, tuple[bool, ...]]] = {"": (False, (False,) * len(patterns))}

    def judge(path: str) -> tuple[bool, tuple[bool, ...]]:
        if path not in verdicts:
            verdicts[path] = _ignored(path, patterns, judge(posixpath.dirname(path))[1])
        return verdicts[path]

    return frozenset(path for path in paths if judge(path)[0])


ANYTHING, DIRECTORIES, WITHIN = re.compile(".*"), re.compile("(.*/)?"), re.compile("[^/]*")
"""What `**`, `**/` and `*` stand for."""


@dataclass(frozen=True)
class _Pattern:
    """A line of `.dockerignore`; `included` for one that begins with an exclamation mark."""

    parts: tuple[re.Pattern[str], ...]
    included: bool

    def matches(self, path: str) -> bool:
        """As one expression of all parts would, in time that grows with the pattern's length, as the builder's Go."""
        ends = {0}
        for part in self.parts:
            ends = _ends(part, ends, path)
        return len(path) in ends


def _ends(part: re.Pattern[str], starts: set[int], path: str) -> set[int]:
    """Where a part of a pattern may end that begins at one of these places."""
    if part not in (ANYTHING, DIRECTORIES, WITHIN):
        return {match.end() for start in starts if (match := part.match(path, start))}
    found, going = set(), False
    for place in range(min(starts, default=len(path) + 1), len(path) + 1):
        going = place in starts or (going and path[place - 1] != ("/" if part is WITHIN else "\n"))
        if going and (part is not DIRECTORIES or place in starts or path[place - 1] == "/"):
            found.add(place)
    return found


def _patterns(content: bytes) -> list[_Pattern]:
    """Docker's documentation, "Build context", ".dockerignore files"; read as BuildKit reads it."""
    text = content.decode("utf-8-sig", "replace")
    if UNCLEAR.search(text):
        raise SourceInvalid(
            "The ignore file holds control characters, or a class within a class ([[).\n"
            "The builder may read it otherwise than a check: write plain patterns, one on a line."
        )
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    try:
        return [_pattern(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    except re.error as error:
        raise SourceInvalid(
            f"The ignore file holds a pattern that is none: {error}\nCorrect it, and try again."
        ) from error


def _pattern(line: str) -> _Pattern:
    included = line.startswith("!")
    text = posixpath.normpath(posixpath.normpath(line.removeprefix("!").strip()).lstrip("/").strip())
    if not included and text.startswith("!"):
        included, text = True, text[1:]
    if text.startswith("**") and not text.startswith("**/") and not WILD.search(text[2:]):
        return _Pattern((ANYTHING, re.compile(re.escape(text[2:]))), included)
    return _Pattern(tuple(_part(token) for token in TOKEN.finditer(text)), included)


def _part(token: re.Match[str]) -> re.Pattern[str]:
    text = token.group()
    if text.startswith("**"):
        return ANYTHING if token.end() == len(token.string) else DIRECTORIES
    if text[0] in "[\\" and len(text) > 1:
        return re.compile(text)  # a class, or a character after a backslash
    return {"*": WITHIN, "?": re.compile("[^/]")}.get(text) or re.compile(re.escape(text))


def _ignored(path: str, patterns: Sequence[_Pattern], above: Sequence[bool]) -> tuple[bool, tuple[bool, ...]]:
    """Whether a path is ignored, and which patterns it matches, given which ones its directory matches.

    The last pattern that matches decides. What would change nothing is not tried, as in BuildKit: a
    pattern that keeps what is not ignored matches nothing below either.
    """
    ignored, matches = False, []
    for pattern, inherited in zip(patterns, above, strict=True):
        matched = inherited or (pattern.included is ignored and pattern.matches(path))
        if matched:
            ignored = not pattern.included
        matches.append(matched)
    return ignored, tuple(matches)
