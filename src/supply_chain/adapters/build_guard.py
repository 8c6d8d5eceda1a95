"""The guard of a running build: looks at what its steps use, and ends the build that uses too much."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path

from supply_chain.adapters.build_cgroup import BuildCgroup
from supply_chain.adapters.command import Cancellation, Done, cancellation
from supply_chain.development.build import Order
from supply_chain.development.separation import BuildLimits
from supply_chain.errors import BuildLimitExceeded, Cancelled, ToolTimedOut
from supply_chain.shown import mebibytes

INTERVAL = 0.5
"""Seconds between two looks; after a look that took long, ten times as long."""
NOT_ON_DISK = {"proc", "sysfs", "tmpfs", "cgroup", "cgroup2", "mqueue", "devpts", "devtmpfs"}
PROC = Path("/proc")
OUT_OF_MEMORY = re.compile(r"exit code: 137|annot allocate memory|ut of memory|MemoryError|signal: killed")


@dataclass
class BuildGuard:
    """Watches one build's steps; `broken` says which limit they broke, or is empty."""

    group: BuildCgroup
    limits: BuildLimits
    storage: Path | None
    """Where the engine keeps its images, on this machine; None for an engine elsewhere."""
    broken: str = ""
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs; what the block runs is ended as soon as a limit is broken."""
        with cancellation().nested() as scope:
            thread = threading.Thread(target=copy_context().run, args=(self._watch, scope), daemon=True)
            thread.start()
            try:
                yield
            finally:
                self._over.set()
                thread.join()

    def _watch(self, scope: Cancellation) -> None:
        pause = INTERVAL
        while not self._over.wait(pause):
            began = time.monotonic()
            if broken := self.look():
                self.broken = broken
                scope.cancel()
                return
            pause = max(INTERVAL, 10 * (time.monotonic() - began))

    def look(self) -> str:
        """Return which limit the steps break now, in a sentence's half; empty where they break none."""
        if self.group.reached() == "processes":
            return processes_told(self.limits)
        if self.storage and (free := free_bytes(self.storage)) < self.limits.reserve:
            return (
                f"only {mebibytes(free)} are free where the engine keeps its images ({self.storage}), and "
                f"{mebibytes(self.limits.reserve)} have to stay"
            )
        written = sum(written_bytes(process, self.limits.disk) for process in self.group.processes())
        if written > self.limits.disk:
            return f"its running steps have written more than {mebibytes(self.limits.disk)}"
        return ""

    def explain(self, last_words: str) -> str:
        """Return which limit ended a build that failed, in a sentence's half; empty where none did.

        `last_words` are the builder's: its steps may reach their limit of memory, give up pages, and go on.
        """
        reached = self.group.reached()
        if reached == "memory" and OUT_OF_MEMORY.search(last_words):
            return f"its steps needed more than their {mebibytes(self.limits.memory)} of memory"
        return self.broken or (processes_told(self.limits) if reached == "processes" else "")


def processes_told(limits: BuildLimits) -> str:
    """Return what a build that reached its limit of processes did."""
    return f"its steps wanted more than {limits.processes} processes"


def free_bytes(directory: Path) -> int:
    """Return how much a directory's file system has left for everybody."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def written_bytes(process: int, most: int, proc: Path = PROC) -> int:
    """Return what a step has written, by one of its processes; counting ends above `most`.

    That is the upper directory of its root (the layer that it makes) and every mount that lies on a disk (caches).
    """
    total = 0
    for place in _written_places(process, proc):
        total += _size(place, most - total)
        if total > most:
            break
    return total


def _written_places(process: int, proc: Path) -> list[Path]:
    """The directories, from /proc/PID/mountinfo (proc_pid_mountinfo(5)); none of a process that has ended."""
    try:
        lines = (proc / str(process) / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    places = []
    for line in lines:
        before, _, after = line.partition(" - ")
        where, options = before.split()[4], before.split()[5]
        kind, _, settings = after.split(" ", 2)
        upper = dict(each.partition("=")[::2] for each in settings.split(",")).get("upperdir")
        if kind == "overlay" and where == "/" and upper:
            places.append(Path(_unescaped(upper)))
        elif kind not in NOT_ON_DISK and where != "/" and "rw" in options.split(","):
            places.append(proc / str(process) / "root" / _unescaped(where).lstrip("/"))
    return places


def _unescaped(path: str) -> str:
    return path.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n").replace(r"\134", "\\")


def _size(place: Path, most: int) -> int:
    """The bytes that files below a place occupy, as far as `most`; what goes meanwhile counts nothing."""
    total, places = 0, [place]
    while places and total <= most:
        try:
            with os.scandir(places.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            places.append(Path(entry.path))
                        else:
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total


def guarded(
    order: Order, limits: BuildLimits | None, storage: Path | None, build: Callable[[], Done], owner: str = ""
) -> Done:
    """Run a build under its limits; `BuildLimitExceeded` where one of them ended it.

    Without limits, or where this user cannot set them, only the disk is looked after.
    """
    if limits is None:
        return build()
    group = BuildCgroup(order.key, owner)
    group.limit(limits)
    guard, outer = BuildGuard(group, limits, storage), cancellation()
    try:
        with guard.watching():
            done = build()
    except (Cancelled, ToolTimedOut) as error:
        ended = "" if outer.cancelled else guard.explain(str(error))
        if ended:
            raise _exceeded(order, ended) from error
        raise
    if done.status != 0 and (ended := guard.explain(done.stderr[-4000:])):
        raise _exceeded(order, ended)
    return done


def _exceeded(order: Order, why: str) -> BuildLimitExceeded:
    return BuildLimitExceeded(
        f"The build of {order.target or 'the image'} was ended, as {why}.\n"
        "Look at what its steps do; what a build may use is set in the block of the container host."
    )
