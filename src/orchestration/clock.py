"""The clock that every step uses."""

from __future__ import annotations

from datetime import UTC, datetime


def read_clock() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
