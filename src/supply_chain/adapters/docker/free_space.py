"""Free space of the file systems with the engine's images, during work that may fill them.

The measurement covers every use of space: what the engine unpacks itself, deleted files that are still open, and many
empty files (inodes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from os import statvfs
from pathlib import Path

from supply_chain.development.separation import BuildLimits
from supply_chain.text import format_mebibytes

MARGIN = 512 * 1024**2
"""Bytes that free space may fall beyond the limits, because logs, databases and the engine itself write meanwhile."""
FREE_INODES = 0.05
"""Fraction of inodes that has to stay free, if the file system counts inodes: 5 % fits file systems of any size."""
COPIES = 4
"""Number of copies of an incompressible image on the disk while it is built: the steps' files, the layers, the layers
with rewritten times, and the archive."""


@dataclass
class FreeSpace:
    """Compares the free space with that of the first measurement and with the reserve that has to stay.

    All users of a file system share its free space: each other running build may use a build's disk limit. The build
    that creates an image may use that limit, or the space that the image takes while it is created, whichever is more.
    """

    directories: tuple[Path, ...]
    limits: BuildLimits
    builds: Callable[[], int] = lambda: 1
    """Returns the number of running builds, with or without this one; 0 counts as 1."""
    image: int = 0
    """Maximum bytes of the image that is created meanwhile."""
    _first: dict[Path, int] = field(default_factory=dict, init=False)

    def check_limits(self) -> str:
        """Return the limit that is exceeded now, as a clause of a sentence; empty if none. Raises `OSError`."""
        return next(filter(None, [self._check(each) for each in self.directories]), "")

    def _check(self, directory: Path) -> str:
        status, where = statvfs(directory), f"where the engine keeps its images ({directory})"
        free = status.f_bavail * status.f_frsize
        used = self._first.setdefault(directory, free) - free
        if free < self.limits.reserve:
            left, reserve = format_mebibytes(free), format_mebibytes(self.limits.reserve)
            return f"only {left} are free {where}, and {reserve} have to stay"
        if status.f_favail < FREE_INODES * status.f_files:
            return f"only {status.f_favail} inodes are free {where}, and {FREE_INODES:.0%} have to stay"
        most = max(self.limits.disk, COPIES * self.image) + MARGIN
        if used <= most:
            return ""
        most += self.limits.disk * max(0, self.builds() - 1)
        return (
            f"the free space {where} fell by more than {format_mebibytes(most)} since it began" if used > most else ""
        )
