"""Cancellation of a step: ends the process groups that the step started, and stops whatever waits for them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar, copy_context
from typing import Any

from supply_chain.errors import Cancelled

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL when a process group is ended."""


class Cancellation:
    """What a cancelled run has to end: process groups, nested cancellations, and callers that poll `cancelled`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._nested: set[Cancellation] = set()

    @property
    def cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self._cancelled.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep; raise `Cancelled` as soon as the run is cancelled."""
        if self._cancelled.wait(seconds):
            raise Cancelled("The run was cancelled while it waited.")

    def cancel(self) -> None:
        """End every command that runs under this cancellation, with all its descendants."""
        self._cancelled.set()
        with self._lock:
            processes, nested = list(self._processes), list(self._nested)
        for each in nested:
            each.cancel()
        for process in processes:
            end_group(process)

    @contextlib.contextmanager
    def nested(self) -> Iterator[Cancellation]:
        """Run the block's commands under a cancellation of their own, which ends with this one too."""
        inner = Cancellation()
        with self._lock:
            self._nested.add(inner)
        token = current.set(inner)
        try:
            if self.cancelled:
                inner.cancel()
            yield inner
        finally:
            current.reset(token)
            with self._lock:
                self._nested.discard(inner)

    @contextlib.contextmanager
    def watching(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """End the process if the run is cancelled while the block runs."""
        with self._lock:
            self._processes.add(process)
        try:
            if self.cancelled:
                end_group(process)
            yield
        finally:
            with self._lock:
                self._processes.discard(process)


current: ContextVar[Cancellation | None] = ContextVar("cancellation", default=None)
"""The cancellation of the current step, set by the caller that runs the step in a thread."""


def get_current_cancellation() -> Cancellation:
    """Return the current cancellation, or one that is never triggered."""
    return current.get() or Cancellation()


def sleep(seconds: float) -> None:
    """Sleep; raise `Cancelled` as soon as the step that calls this is cancelled.

    Ports keep this function, not a `Cancellation`: a flow makes them before the step begins.
    """
    get_current_cancellation().wait(seconds)


@contextlib.contextmanager
def defer_cancellation() -> Iterator[None]:
    """Let the block continue when the run is cancelled; use it only for short work that nobody else would repeat."""
    token = current.set(None)
    try:
        yield
    finally:
        current.reset(token)


def run_concurrently(*parts: Callable[[], Any]) -> list[Any]:
    """Run all parts at once and return their results in order; the first failure is raised after all have ended.

    An interrupt ends the commands of all parts.
    """
    scope = get_current_cancellation()

    def cancellable(part: Callable[[], Any]) -> Any:
        current.set(scope)
        return part()

    with ThreadPoolExecutor(len(parts)) as pool:
        futures = [pool.submit(copy_context().run, cancellable, part) for part in parts]
        try:
            wait(futures)
        except BaseException:
            scope.cancel()
            raise
    return [future.result() for future in futures]


def end_group(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """End a process that leads its own group, and the group: SIGTERM, then after `grace` seconds SIGKILL."""
    for sig, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
