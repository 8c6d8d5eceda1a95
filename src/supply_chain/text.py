"""Text as people are shown it; one of unknown origin can neither control a terminal nor pass for another line."""

from __future__ import annotations

import re
from collections.abc import Sequence

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")


def plain(text: object) -> str:
    """Text without control characters, in one line."""
    return CONTROL.sub("·", str(text).replace("\n", " ").replace("\t", " "))


def plain_lines(text: object) -> str:
    """Text without control characters but the ends of its lines."""
    return "\n".join(plain(line) for line in str(text).split("\n"))


def first_line(error: Exception) -> str:
    """What an error says has happened, without what to do next."""
    return str(error.args[0]).partition("\n")[0].rstrip(".")


def in_a_line(error: Exception) -> str:
    """What an error says, what to do next included, in one line."""
    return " — ".join(str(error).splitlines())


def counted(number: int, noun: str) -> str:
    """`1 finding`, `2 findings`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_of(most: int, lines: Sequence[str]) -> list[str]:
    """The first of the lines; where there are more than `most`, `and 3 more` after them."""
    return [*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])]


def mebibytes(number: int) -> str:
    """`512 MiB`."""
    return f"{number // 1024**2} MiB"
