"""Functions that run independent calls concurrently, a few at a time; in threads, or in processes if they calculate."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

SIDE_BY_SIDE = 4

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")


class KeyedLock:
    """A lock for each key, so that threads that need the same thing do the work once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks = dict[str, tuple[threading.Lock, int]]()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Hold the lock of a key, after other threads have released it. It must not be held already."""
        with self._guard:
            lock, holders = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, holders + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                holders = self._locks[key][1] - 1
                if holders:
                    self._locks[key] = lock, holders
                else:
                    del self._locks[key]


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


def iterate_in_processes(function: Callable[[S], R], items: Sequence[S], wide: int) -> Iterator[R]:
    """Call `function` on every item in `wide` new processes, and yield the results in the order of the items.

    Function, items and results have to be picklable. After an error, no further call starts. The processes end with
    this one, however it ends.
    """
    with ProcessPoolExecutor(wide, get_context("spawn"), _end_with_parent) as pool:
        try:
            for future in [pool.submit(function, item) for item in items]:
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended: the pool's queue would keep it waiting."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def run_in_background(function: Callable[[], R]) -> Iterator[Callable[[], R]]:
    """Call a function in a thread while the block runs; yield a function that waits for it and returns its result.

    The block is left once the call has ended. Its error is raised where the result is asked for.
    """
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(copy_context().run, function).result


def run_both(one: Callable[[], S], other: Callable[[], T]) -> tuple[S, T]:
    """Call two functions concurrently and return both results."""
    calls: tuple[Callable[[], Any], ...] = (one, other)
    first, second = map_concurrently(lambda call: call(), calls)
    return first, second
