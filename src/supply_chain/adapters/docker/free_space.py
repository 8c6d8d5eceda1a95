"""The free space of the file systems on which the engine keeps its images, while something runs that may fill it.

Whatever takes it is seen: what the engine unpacks itself, files that have no name any more, and many empty ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from os import statvfs
from pathlib import Path

from supply_chain.development.separation import BuildLimits
from supply_chain.text import mebibytes

MARGIN = 512 * 1024**2
"""Bytes that free space may fall beyond the limits: logs, databases and the engine itself write meanwhile."""
FREE_INODES = 0.05
"""The part of a file system's inodes that has to stay free, where it counts them: 5 % fits file systems of any size."""
COPIES = 4
"""How often an image that does not compress lies there while it is made: as its steps leave it, as layers, as layers
with other times, and as an archive."""


def free_bytes(directory: Path) -> int:
    """Return how much a directory's file system has left for everybody."""
    found = statvfs(directory)
    return found.f_bavail * found.f_frsize


@dataclass
class FreeSpace:
    """Compares the free space with what it was at the first look, and with what has to stay.

    All users of a file system share its free space: each of the other builds that run may take the limit of a build.
    Whoever makes an image may take that, or as much as the image takes while it is made, whichever is more.
    """

    directories: tuple[Path, ...]
    limits: BuildLimits
    builds: Callable[[], int] = lambda: 1
    """Counts the builds that run now, this one among them or not; none counts as one."""
    image: int = 0
    """Bytes that the image may have which is made meanwhile."""
    _first: dict[Path, int] = field(default_factory=dict, init=False)

    def look(self) -> str:
        """Return what is broken now, in a sentence's half; empty where nothing is. Raises `OSError`."""
        return next(filter(None, [self._look(each) for each in self.directories]), "")

    def _look(self, directory: Path) -> str:
        found, where = statvfs(directory), f"where the engine keeps its images ({directory})"
        free = found.f_bavail * found.f_frsize
        lost = self._first.setdefault(directory, free) - free
        if free < self.limits.reserve:
            return f"only {mebibytes(free)} are free {where}, and {mebibytes(self.limits.reserve)} have to stay"
        if found.f_favail < FREE_INODES * found.f_files:
            return f"only {found.f_favail} inodes are free {where}, and {FREE_INODES:.0%} have to stay"
        most = max(self.limits.disk, COPIES * self.image) + MARGIN
        if lost <= most:
            return ""
        most += self.limits.disk * max(0, self.builds() - 1)
        return f"the free space {where} fell by more than {mebibytes(most)} since it began" if lost > most else ""
