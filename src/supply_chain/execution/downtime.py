"""Measures the downtime that users of an address notice while something is switched behind it."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from supply_chain.readiness import probe_readiness

INTERVAL = 0.01
"""Seconds between two requests."""


class DowntimeMeter:
    """Requests an address again and again while its block runs.

    `gap` is the longest time in seconds without a successful answer. Because requests are sent every 10 ms, a gap of
    little more than that is no interruption.
    """

    def __init__(self, address: str, port: int, path: str) -> None:
        self._where = address, port, path
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=self._request_until_end, name=f"downtime of {address}:{port}", daemon=True
        )
        self.requests = 0
        self.failed = 0
        self.gap = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _request_until_end(self) -> None:
        last = time.monotonic()
        while not self._end.is_set():
            trouble = probe_readiness(*self._where)
            now = time.monotonic()
            self.requests += 1
            self.gap = max(self.gap, now - last)
            if trouble:
                self.failed += 1
            else:
                last = now
            self._end.wait(INTERVAL)
