"""Limits of one snapshot: time, and bytes of git objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from supply_chain.adapters.process.cancellation import Cancellation, get_current_cancellation
from supply_chain.development.snapshot import MAX_SIZE
from supply_chain.errors import SourceInvalid

MAX_SECONDS = 300
"""Maximum seconds of a snapshot."""
MAX_READ = MAX_SIZE + 4 * 1024**3
"""Maximum bytes of git objects that are read for one snapshot: its files, and the commits and trees around them."""


class Phase(Enum):
    """Phase of a snapshot: what it does, and how to make it shorter."""

    GIT = (
        "reading the git repository",
        "Build from a shallow clone (`git clone --depth=1`), or move files that are not source out of the repository.",
    )
    LIST = (
        "listing the files",
        "Name directories that are not built in the ignore file, or choose a smaller build context (build.context).",
    )
    LINKS = (
        "following the symbolic links",
        "Replace links by files or directories, or name those that are not built in the ignore file.",
    )
    COPY = (
        "copying the files",
        "Name files that are not built in the ignore file, or move the source to a faster disk.",
    )


@dataclass
class Budget:
    """Ends a snapshot that takes too long, that reads too much, or whose run is cancelled.

    After a limit is exceeded, every checkpoint raises.
    """

    clock: Callable[[], float] = time.monotonic
    """Returns seconds since any fixed time."""
    seconds: float = MAX_SECONDS
    size: int = MAX_READ
    """Maximum bytes of git objects."""
    phase: Phase = Phase.GIT
    scope: Cancellation = field(default_factory=get_current_cancellation)
    _deadline: float = field(init=False)
    _read: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + self.seconds

    def checkpoint(self) -> None:
        """Raise `SourceInvalid` if the time or the bytes are used up, and `Cancelled` if the run is cancelled."""
        if self.scope.cancelled:
            self.scope.wait(0)
        doing, remedy = self.phase.value
        if self._read > self.size:
            raise SourceInvalid(
                f"The snapshot needs more than {self.size / 1024**3:g} GiB of git objects, while {doing}.\n{remedy}"
            )
        if self.clock() > self._deadline:
            raise SourceInvalid(f"The snapshot took more than {self.seconds:g} seconds, while {doing}.\n{remedy}")

    def spend(self, size: int) -> None:
        """Count the bytes of a git object that was read. Raises the errors of `checkpoint`."""
        self._read += size
        self.checkpoint()
