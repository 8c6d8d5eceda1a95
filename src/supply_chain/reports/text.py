"""Text of unknown origin as pages show it: it can neither format them nor control a terminal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime

from supply_chain.text import plain

NO_KEY = re.compile(r"[^a-z0-9]+")
LONGEST_KEY = 120
ROWS = 500
"""Of a table in Prefect's UI, which draws all of them at once."""
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def unbroken(text: str) -> str:
    """Text that a narrow column does not break, for short things such as `12.3 s`."""
    return text.replace(" ", "\u00a0")


def escaped(text: object) -> str:
    """Text that markdown shows as it is."""
    return SPECIAL.sub(r"\\\1", plain(text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are shown as they are."""
    return grid(head, [[escaped(cell)[:400] for cell in row] for row in rows])


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are markdown already."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def at_most(rows: Sequence[dict[str, str]], most: int = ROWS) -> list[dict[str, str]]:
    """The first rows of a table, and in the last one how many more there are."""
    return [*rows[:most], *more_rows(rows, len(rows) - most)]


def more_rows(rows: Sequence[dict[str, str]], more: int) -> list[dict[str, str]]:
    """The last row of a table like these rows, that says how many more there are; none where there are no more."""
    return [{**dict.fromkeys(rows[0], ""), next(iter(rows[0])): f"{more} more"}] if more > 0 else []


def artifact_key(*words: str) -> str:
    """`dossier-hello`: a key of what is published about something, unlike that of anything else.

    Prefect takes small letters, digits and dashes; what has others, or is long, ends with a part of its digest.
    """
    whole = "-".join(words)
    key = NO_KEY.sub("-", whole.lower())[:LONGEST_KEY].strip("-")
    return key if key == whole else f"{key}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"


def megabytes(size: int) -> str:
    """Bytes, for people: `12.3 MB`."""
    return f"{size / 1e6:.1f} MB"


def day(at: datetime | None) -> str:
    """A date, or that there is none."""
    return f"{at:%Y-%m-%d}" if at else "never"
