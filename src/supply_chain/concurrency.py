"""What does not depend on each other runs side by side, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

SIDE_BY_SIDE = 4

S = TypeVar("S")
R = TypeVar("R")


def side_by_side(function: Callable[[S], R], items: Sequence[S]) -> tuple[R, ...]:
    """`function` of every item, a few at a time, in order; the first error is raised, and no more is begun."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        futures = [pool.submit(copy_context().run, function, item) for item in items]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
