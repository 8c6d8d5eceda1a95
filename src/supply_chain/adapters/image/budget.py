"""What reading one image may cost: processor time, for which a slow disk or a busy host counts nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from supply_chain.adapters.process.command import Cancellation, cancellation

MAX_SECONDS = 900
"""Seconds of processor time; 16 GiB of files, the most that are read, take two minutes where nobody makes it long."""


class TooLong(ValueError):
    """Reading an image takes more than it may."""


@dataclass
class Budget:
    """Ends the reading of an image, in this thread, that takes too much or whose run is cancelled.

    Once it is exceeded, every checkpoint raises.
    """

    clock: Callable[[], float] = time.thread_time
    """Seconds, from any beginning."""
    scope: Cancellation = field(default_factory=cancellation)
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + MAX_SECONDS

    def checkpoint(self) -> None:
        """Raise `TooLong` where the time is used up, and `Cancelled` where the run is cancelled."""
        if self.scope.cancelled:
            self.scope.wait(0)
        if self.clock() > self._deadline:
            raise TooLong(
                f"they take more than {MAX_SECONDS // 60} minutes of processor time; "
                "have fewer files in the image, compressed ones above all"
            )
