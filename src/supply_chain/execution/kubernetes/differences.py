"""The differences between two objects of Kubernetes' API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

EMPTY: tuple[Any, ...] = (None, "", [], {})


def find_differences(expected: Any, actual: Any, path: str = "", *, absent_is_empty: bool) -> Iterator[str]:
    """Yield the paths at which two values differ; never the values, because they may be secret.

    `absent_is_empty` says whether a missing value and an empty text, list or object are the same. A missing value never
    is `false` or 0: without `automountServiceAccountToken: false` there is a token, and `runAsUser: 0` is root.
    """
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key in sorted(expected.keys() | actual.keys()):
            below = f"{path}.{key}".lstrip(".")
            yield from find_differences(expected.get(key), actual.get(key), below, absent_is_empty=absent_is_empty)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from find_differences(one, other, f"{path}[{number}]", absent_is_empty=absent_is_empty)
    elif expected != actual and not (absent_is_empty and all(each in EMPTY for each in (expected, actual))):
        yield path
