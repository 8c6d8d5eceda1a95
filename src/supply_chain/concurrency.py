"""Functions that run independent calls concurrently, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import Any, TypeVar

SIDE_BY_SIDE = 4

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")


def map_concurrently(function: Callable[[S], R], items: Sequence[S], wide: int = SIDE_BY_SIDE) -> tuple[R, ...]:
    """Call `function` on every item, `wide` at a time, and return the results in the order of the items.

    The first error is raised; after it, no further call starts.
    """
    if wide == 1 or len(items) < 2:
        return tuple(map(function, items))
    with ThreadPoolExecutor(wide) as pool:
        futures = [pool.submit(copy_context().run, function, item) for item in items]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def iterate_concurrently(function: Callable[[S], R], items: Iterable[S], wide: int = SIDE_BY_SIDE) -> Iterator[R]:
    """Call `function` on every item and yield the results in the order of the items, each as soon as it is there.

    At most `wide` calls or results exist at a time. If the caller closes the generator or a call raises, no further
    call starts, and the running calls are awaited.
    """
    with ThreadPoolExecutor(wide) as pool:
        calls = (pool.submit(copy_context().run, function, item) for item in items)
        begun = deque(islice(calls, wide))
        try:
            while begun:
                yield begun.popleft().result()
                begun.extend(islice(calls, 1))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_both(one: Callable[[], S], other: Callable[[], T]) -> tuple[S, T]:
    """Call two functions concurrently and return both results."""
    calls: tuple[Callable[[], Any], ...] = (one, other)
    first, second = map_concurrently(lambda call: call(), calls)
    return first, second
