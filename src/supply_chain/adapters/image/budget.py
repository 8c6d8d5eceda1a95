"""Limit of the processor time for reading one image; a slow disk or a busy host does not count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from supply_chain.adapters.process.cancellation import Cancellation, get_current_cancellation

MAX_SECONDS = 900
"""Maximum seconds of processor time. 16 GiB of files, the largest image that is read, normally take two minutes."""


class TooLong(ValueError):
    """Reading an image takes more processor time than allowed."""


@dataclass
class Budget:
    """Ends the reading of an image, in this thread, if it takes too long or its run is cancelled.

    After the time is used up, every checkpoint raises.
    """

    clock: Callable[[], float] = time.thread_time
    """Returns seconds since any fixed time."""
    scope: Cancellation = field(default_factory=get_current_cancellation)
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + MAX_SECONDS

    def checkpoint(self) -> None:
        """Raise `TooLong` if the time is used up, and `Cancelled` if the run is cancelled."""
        if self.scope.cancelled:
            self.scope.wait(0)
        if self.clock() > self._deadline:
            raise TooLong(
                f"they take more than {MAX_SECONDS // 60} minutes of processor time; "
                "have fewer files in the image, compressed ones above all"
            )
