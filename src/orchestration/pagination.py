"""Prefect's API gives so many at once: all of them, a page at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

PAGE = 200
"""What Prefect's API gives at once, at most."""


async def every(read: Callable[..., Awaitable[list[T]]], **wanted: Any) -> list[T]:
    """All that `read`, a method of Prefect's client, gives for what is wanted."""
    found: list[T] = []
    while page := await read(**wanted, limit=PAGE, offset=len(found)):
        found += page
        if len(page) < PAGE:
            break
    return found
