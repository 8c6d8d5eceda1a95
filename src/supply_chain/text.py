"""Text for terminals and pages. Text of unknown origin can neither control a terminal nor imitate another line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")


def sanitize_text(text: object) -> str:
    """Return text in one line, with control characters replaced."""
    return CONTROL.sub("·", str(text).replace("\n", " ").replace("\t", " "))


def sanitize_lines(text: object) -> str:
    """Return text with control characters replaced, except line ends."""
    return "\n".join(sanitize_text(line) for line in str(text).split("\n"))


def summarize_error(error: Exception) -> str:
    """Return the first line of an error, which says what happened, without the final period."""
    return str(error.args[0]).partition("\n")[0].rstrip(".")


def join_lines(error: Exception) -> str:
    """Return the whole text of an error, including what to do next, in one line."""
    return " — ".join(str(error).splitlines())


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun: `1 finding`, `2 findings`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def render_time(at: datetime) -> str:
    """Return a time, which is in UTC, to the minute: `2026-01-01 12:00 UTC`."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def truncate_lines(most: int, lines: Sequence[T], text: Callable[[T], str] = str) -> list[str]:
    """Return the first `most` lines as text, and a line such as `and 3 more` if there are more."""
    return [*map(text, lines[:most]), *([f"and {len(lines) - most} more"] if len(lines) > most else [])]


def format_mebibytes(number: int) -> str:
    """Return a number of bytes as text: `512 MiB`."""
    return f"{number // 1024**2} MiB"


def list_remedies(facts: Iterable[tuple[str, str]], indent: str) -> Iterator[str]:
    """Yield each line, and below the last one of those in sequence with the same remedy an indented line with that."""
    for remedy, group in groupby(facts, key=lambda each: each[1]):
        yield from (line for line, _ in group)
        yield f"{indent}→ {remedy}"
