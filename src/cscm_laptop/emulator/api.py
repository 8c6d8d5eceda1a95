"""Requests to ECR's API: their errors and limits, and pages that stay stable while the registry changes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

INVALID = "InvalidParameterException"


class ApiError(Exception):
    """An error of the API, with AWS's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def page(
    items: Iterable[T], key: Callable[[T], tuple[str, ...]], data: Mapping[str, Any], usual: int, most: int
) -> tuple[list[T], dict[str, str]]:
    """Return the next items in the order of their keys, and the token of the next page if there is one.

    A token contains the last key of its page. An item that exists all the time is therefore returned exactly once,
    whatever is pushed or deleted between two pages. `usual` is the default page size, `most` the largest.
    """
    limit, token = data.get("maxResults", usual), data.get("nextToken")
    if not isinstance(limit, int) or not 1 <= limit <= most:
        raise ApiError(INVALID, f"Invalid parameter at 'maxResults' failed to satisfy constraint: 1 to {most}")
    last = _read(token) if token else ()
    rest = sorted((item for item in items if key(item) > last), key=key)
    entries = rest[:limit]
    more = {"nextToken": _write(key(entries[-1]))} if len(rest) > limit else {}
    return entries, more


def one_by_one(data: Mapping[str, Any], ids: str) -> None:
    """Raise `ApiError` if a request both names items in `ids` and asks for a page."""
    if data.get(ids) and (data.get("maxResults") is not None or data.get("nextToken")):
        raise ApiError(INVALID, f"Invalid parameter: {ids} cannot be used together with maxResults or nextToken")


def within(values: list[Any] | None, name: str, most: int) -> list[Any]:
    """Return the values; raise `ApiError` unless there are one to `most` of them."""
    if not values or len(values) > most:
        raise ApiError(INVALID, f"Invalid parameter at '{name}' failed to satisfy constraint: length of 1 to {most}")
    return values


def one_of(value: Any, name: str, allowed: Iterable[str]) -> str:
    """Return the value; raise `ApiError` unless it is one of the allowed values."""
    if value not in tuple(allowed):
        raise ApiError(INVALID, f"Invalid parameter at '{name}' failed to satisfy constraint: {', '.join(allowed)}")
    return str(value)


def _write(key: tuple[str, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read(token: str) -> tuple[str, ...]:
    try:
        key = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        key = None
    if not isinstance(key, list) or not all(isinstance(part, str) for part in key):
        raise ApiError(INVALID, "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'")
    return tuple(key)
