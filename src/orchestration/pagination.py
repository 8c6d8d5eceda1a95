"""Reads all results of Prefect's API, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

PAGE = 200
"""Maximum number of objects that Prefect's API returns at once."""


async def fetch_all(read: Callable[..., Awaitable[list[T]]], **filters: Any) -> list[T]:
    """Return all results of `read`, a method of Prefect's client, for these arguments."""
    items: list[T] = []
    while True:
        page = await read(**filters, limit=PAGE, offset=len(items))
        items += page
        if len(page) < PAGE:
            return items
