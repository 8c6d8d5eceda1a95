"""Functions that render text of unknown origin so that it can neither format a page nor control a terminal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime

from supply_chain.text import sanitize_text

NO_KEY = re.compile(r"[^a-z0-9]+")
LONGEST_KEY = 120
DIGEST_END = re.compile(r"-[0-9a-f]{12}$")
ROWS = 500
"""Maximum number of rows in a table of Prefect's UI, which draws all of them at once."""
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def keep_together(text: str) -> str:
    """Return text that a narrow column does not break, for short values such as `12.3 s`."""
    return text.replace(" ", "\u00a0")


def escape(text: object) -> str:
    """Return text that markdown renders literally."""
    return SPECIAL.sub(r"\\\1", sanitize_text(text))


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a markdown table whose cells appear literally, cut to 400 characters."""
    return render_grid(head, [[escape(cell)[:400] for cell in row] for row in rows])


def render_grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a markdown table whose cells are already markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def truncate_rows(rows: Sequence[dict[str, str]], most: int = ROWS) -> list[dict[str, str]]:
    """Return at most `most` rows, followed by one with the number of omitted rows."""
    return [*rows[:most], *make_overflow_row(rows, len(rows) - most)]


def make_overflow_row(rows: Sequence[dict[str, str]], more: int) -> list[dict[str, str]]:
    """Return a last row for a table like these rows that says how many more there are; none if `more` is 0."""
    return [{**dict.fromkeys(rows[0], ""), next(iter(rows[0])): f"{more} more"}] if more > 0 else []


def make_artifact_key(*words: str) -> str:
    """Return a unique artifact key for these words, such as `run-report-hello`.

    Prefect accepts lower-case letters, digits and dashes. A key ends with a part of the words' digest if they have
    other characters, are long, end like such a key, or do not show where each of them ends. The first word is the kind
    of the artifact; none may begin with another one and a dash.
    """
    joined = "-".join(words)
    key = NO_KEY.sub("-", joined.lower())[:LONGEST_KEY].strip("-")
    is_ambiguous = len(words) > 2 and any("-" in word for word in words[1:])
    if key == joined and not is_ambiguous and not DIGEST_END.search(key):
        return key
    return f"{key}-{hashlib.sha256(chr(0).join(words).encode()).hexdigest()[:12]}"


def format_megabytes(size: int) -> str:
    """Format a number of bytes for people: `12.3 MB`."""
    return f"{size / 1e6:.1f} MB"


def format_day(at: datetime | None) -> str:
    """Format a date; `never` if there is none."""
    return f"{at:%Y-%m-%d}" if at else "never"
