"""The control group that BuildKit puts an application's build steps into (`buildx build --cgroup-parent`).

Its name holds the application's cache key: BuildKit counts it as part of what a step is, so that no step of another
application has the same cached result. The groups of one supply chain lie together. Whoever may write it (root, on the
engine's own machine) sets the limits.
Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of the kernel say what each file means.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supply_chain.development.build import Order
from supply_chain.development.separation import BuildLimits

ROOT = Path("/sys/fs/cgroup")
PARENT = "cscm.build"
PERIOD = 100_000
"""Microseconds over which processor time is shared out."""
SHARES, WEIGHT = 256, 25
"""A quarter of what everything else gets where processors are short (cgroup v1 and v2)."""
GONE = (errno.ENOENT, errno.ENODEV, errno.ESRCH)
"""How the kernel says that a group or a process is not there any more."""


def group_name(key: str, owner: str) -> str:
    """Return the name to give to `--cgroup-parent`."""
    return f"/{_path(key, owner)}"


def _path(key: str, owner: str) -> Path:
    """Return where a group lies below each root, without a directory of its owner's where it has none."""
    return Path(PARENT, re.sub(r"[^0-9A-Za-z-]", "-", owner), key)


def separation(order: Order, limits: BuildLimits | None, owner: str) -> list[str]:
    """Return the arguments of `buildx build` that keep this build apart from every other application's.

    A file may grow as far as all of them together, which also holds where nobody may set a group's limits.
    """
    arguments = [
        f"--cgroup-parent={group_name(order.key, owner)}",
        f"--build-arg=BUILDKIT_CACHE_MOUNT_NS={order.caches}",
    ]
    if limits:
        arguments.append(f"--ulimit=fsize={limits.disk}:{limits.disk}")
    return [*arguments, "--no-cache"] if order.fresh else arguments


@dataclass(frozen=True)
class BuildCgroup:
    """The control group of one cache key, of version 1 or 2, whichever the kernel serves.

    `owner` is the supply chain that builds.
    """

    key: str
    owner: str = ""
    root: Path = ROOT
    limited: bool = True
    """Whether its limits are set; where they are not, what it says of its steps means nothing."""

    @property
    def unified(self) -> bool:
        """Whether the kernel serves version 2 alone."""
        return (self.root / "cgroup.controllers").is_file()

    def directory(self, controller: str) -> Path:
        """Return where the group's files of a controller are."""
        return (self.root if self.unified else self.root / controller) / _path(self.key, self.owner)

    def limit(self, limits: BuildLimits) -> bool:
        """Set the limits, with counters that begin at nothing; return False where this user or kernel cannot."""
        try:
            if self.unified:
                self._delegate()
            settings = self._settings(limits)
            for directory in {self.directory(controller) for controller in settings}:  # one for all in version 2
                _remove(directory)  # its counters go with it; one with processes in it stays
                directory.mkdir(parents=True, exist_ok=True)
            for controller, files in settings.items():
                for name, value in files:
                    (self.directory(controller) / name).write_text(value, encoding="ascii")
        except OSError:
            return False
        return True

    def _delegate(self) -> None:
        above = self.directory("").parent
        above.mkdir(parents=True, exist_ok=True)
        for directory in dict.fromkeys((self.root, self.root / PARENT, above)):
            (directory / "cgroup.subtree_control").write_text("+memory +pids +cpu", encoding="ascii")

    def _settings(self, limits: BuildLimits) -> dict[str, list[tuple[str, str]]]:
        quota, processes = str(int(limits.cpus * PERIOD)), [("pids.max", str(limits.processes))]
        memory = str(limits.memory)
        if self.unified:
            return {
                "memory": [("memory.max", memory), ("memory.swap.max", "0")],
                "pids": processes,
                "cpu": [("cpu.max", f"{quota} {PERIOD}"), ("cpu.weight", str(WEIGHT))],
            }
        both = "memory.memsw.limit_in_bytes"
        swap = [(both, memory)] if (self.root / "memory" / both).exists() else []  # not every kernel counts it
        return {
            "memory": [("memory.limit_in_bytes", memory), *swap],
            "pids": processes,
            "cpu": [("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", quota), ("cpu.shares", str(SHARES))],
        }

    def reached(self) -> str:
        """Return which limit the steps have reached so far: `memory`, `processes`, or an empty text.

        At the limit of memory pages are given up first: whether it ended anything, its end has to tell.
        Raises `OSError` where the kernel does not say it.
        """
        pids, memory = self.directory("pids"), self.directory("memory")
        refused = any(_counted(each, "max") for each in _files(pids, "pids.events"))
        if refused or _is_reached(pids / "pids.peak", pids / "pids.max"):
            return "processes"
        killed = any(_counted(each, "oom_kill") for each in _files(memory, "memory.events"))
        reached = _is_reached(memory / "memory.max_usage_in_bytes", memory / "memory.limit_in_bytes")
        return "memory" if killed or reached else ""

    def processes(self) -> Iterator[int]:
        """Yield a process of each step that runs. Raises `OSError` where the kernel does not say it."""
        for file in _files(self.directory("pids"), "cgroup.procs"):
            for first in _read(file).split()[:1]:
                yield int(first)

    def running(self) -> int:
        """Count the builds of this owner of which a step runs now."""
        return running_builds(self.owner, self.root)


def running_builds(owner: str, root: Path = ROOT) -> int:
    """Count the builds of an owner of which a step runs now, by their groups."""
    above = BuildCgroup("", owner, root).directory("pids")
    keys = [each.name for each in above.glob("*") if each.is_dir()]
    return sum(any(BuildCgroup(key, owner, root).processes()) for key in keys)


def cgroup_writable(root: Path = ROOT) -> bool:
    """Return whether this user may make groups that hold builds to their limits."""
    places = [root] if (root / "cgroup.controllers").is_file() else [root / each for each in ("memory", "pids", "cpu")]
    return all(os.access(place, os.W_OK) for place in places)


def remove_groups(owner: str, root: Path = ROOT) -> None:
    """Remove the groups of this owner's builds that are over.

    Those of others stay, also empty ones: a build that is about to begin has set its limits in one.
    """
    for parent in {*root.glob(PARENT), *root.glob(f"*/{PARENT}")}:
        _remove(parent / _path("", owner).name)
        with contextlib.suppress(OSError):
            parent.rmdir()


def _remove(directory: Path) -> None:
    for inner, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            Path(inner).rmdir()


@contextlib.contextmanager
def unless_gone(*more: int) -> Iterator[None]:
    """Pass over errors that say that a group or a process has ended, these numbers of errors among them."""
    try:
        yield
    except OSError as error:
        if error.errno not in (*GONE, *more):
            raise


def _files(directory: Path, name: str) -> Iterator[Path]:
    """Yield the files of this name in a group and the groups in it, which may go meanwhile."""

    def failed(error: OSError) -> None:
        with unless_gone():
            raise error

    for inner, _, files in os.walk(directory, onerror=failed):
        if name in files:
            yield Path(inner) / name


def _read(file: Path) -> str:
    with unless_gone():
        return file.read_text(encoding="ascii").strip()
    return ""


def _is_reached(peak: Path, limit: Path) -> bool:
    """Whether a peak is as high as its limit; not where one of the files is gone or says `max`."""
    used, most = _read(peak), _read(limit)
    return used.isdigit() and most.isdigit() and int(used) >= int(most)


def _counted(file: Path, event: str) -> int:
    words = dict(line.split(" ", 1) for line in _read(file).splitlines() if " " in line)
    return int(words.get(event, "0"))
