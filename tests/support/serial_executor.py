"""An executor that runs each call at once, in the calling thread, for tests whose ports are in memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class SerialExecutor(Executor):
    """Replaces a `ThreadPoolExecutor`: in memory no call waits, and threads cost more than the calls."""

    def __init__(self, *_: object) -> None:
        self._failed = False

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call and return its result; after an error, cancel it, as a pool does with calls that wait."""
        future = Future[T]()
        if self._failed:
            future.cancel()
            return future
        try:
            future.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - the future raises it
            self._failed = True
            future.set_exception(error)
        return future
