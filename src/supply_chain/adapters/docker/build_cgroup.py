"""The control group (cgroup) in which BuildKit runs an application's build steps (`buildx build --cgroup-parent`).

The group's name contains the application's cache key. BuildKit treats the name as part of a step's identity, so a step
of another application never has the same cached result. All groups of one supply chain are in one directory. A user who
may write the group (root, on the engine's own machine) sets the limits. The kernel documents each file in
Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.files.file_lock import try_lock
from supply_chain.development.build import BuildOrder
from supply_chain.development.separation import BuildLimits

ROOT = Path("/sys/fs/cgroup")
PARENT = "cscm.build"
PERIOD = 100_000
"""Scheduling period of the processor quota, in microseconds."""
SHARES, WEIGHT = 256, 25
"""Processor weight of a build (cgroup v1 and v2): a quarter of the default, where processors are short."""
KEY = re.compile("[0-9a-f]{32}")
"""A cache key, as the name of a group."""
UNUSED = 6 * 3600.0
"""Seconds after which the build that made a group has ended: more than the longest time of a build."""
LOCK, POLL = 10.0, 0.05
"""Maximum seconds to wait for another build that prepares its group, and seconds between two attempts."""
GONE = (errno.ENOENT, errno.ENODEV, errno.ESRCH)
"""Error numbers by which the kernel reports that a group or a process no longer exists."""


def group_name(key: str, owner: str) -> str:
    """Return the value of `--cgroup-parent`."""
    return f"/{_path(key, owner)}"


def _path(key: str, owner: str) -> Path:
    """Return the path of a group relative to each root.

    Without an owner, the path has no directory for the owner.
    """
    return Path(PARENT, re.sub(r"[^0-9A-Za-z-]", "-", owner), key)


def make_separation_arguments(order: BuildOrder, limits: BuildLimits | None, owner: str) -> list[str]:
    """Return the arguments of `buildx build` that separate this build from the builds of every other application.

    The file size limit (`fsize`) of each file equals the disk limit of the whole build. It applies even where nobody
    may set a group's limits.
    """
    arguments = [
        f"--cgroup-parent={group_name(order.key, owner)}",
        f"--build-arg=BUILDKIT_CACHE_MOUNT_NS={order.caches}",
    ]
    if limits:
        arguments.append(f"--ulimit=fsize={limits.disk}:{limits.disk}")
    return [*arguments, "--no-cache"] if order.force else arguments


@dataclass(frozen=True)
class BuildCgroup:
    """Control group of one cache key, version 1 or 2, whichever the kernel provides.

    `owner` is the supply chain that builds.
    """

    key: str
    owner: str = ""
    root: Path = ROOT
    limited: bool = True
    """Whether the limits are set. If not, the group's counters say nothing about the build's steps."""

    @property
    def unified(self) -> bool:
        """Whether the kernel provides only version 2."""
        return (self.root / "cgroup.controllers").is_file()

    def directory(self, controller: str) -> Path:
        """Return the directory of the group's files for a controller."""
        return (self.root if self.unified else self.root / controller) / _path(self.key, self.owner)

    def limit(self, limits: BuildLimits) -> bool:
        """Set the limits and reset the counters; return False if this user or kernel cannot."""
        try:
            if self.unified:
                self._delegate()
            settings = self._settings(limits)
            for directory in {self.directory(controller) for controller in settings}:  # version 2: one for all
                _remove(directory)  # resets the counters; a group with processes stays
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
        swap = [(both, memory)] if (self.root / "memory" / both).exists() else []  # not every kernel counts swap
        return {
            "memory": [("memory.limit_in_bytes", memory), *swap],
            "pids": processes,
            "cpu": [("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", quota), ("cpu.shares", str(SHARES))],
        }

    def find_reached_limit(self) -> str:
        """Return the limit that the steps have reached so far: `memory`, `processes`, or an empty string.

        At the memory limit, the kernel first reclaims pages. Whether the limit ended a step shows only in how the step
        ended. Raises `OSError` if the kernel does not provide the counters.
        """
        pids, memory = self.directory("pids"), self.directory("memory")
        refused = any(_count_events(each, "max") for each in _files(pids, "pids.events"))
        if refused or _is_reached(pids / "pids.peak", pids / "pids.max"):
            return "processes"
        killed = any(_count_events(each, "oom_kill") for each in _files(memory, "memory.events"))
        reached = _is_reached(memory / "memory.max_usage_in_bytes", memory / "memory.limit_in_bytes")
        return "memory" if killed or reached else ""

    def processes(self) -> Iterator[int]:
        """Yield one process id of each running step. Raises `OSError` if the kernel does not list them."""
        for file in _files(self.directory("pids"), "cgroup.procs"):
            for first in _read(file).split()[:1]:
                yield int(first)

    def running(self) -> int:
        """Count the builds of this owner that have a running step."""
        return count_running_builds(self.owner, self.root)


def count_running_builds(owner: str, root: Path = ROOT) -> int:
    """Count the builds of an owner that have a running step, by their groups."""
    above = BuildCgroup("", owner, root).directory("pids")
    keys = [each.name for each in above.glob("*") if each.is_dir()]
    return sum(any(BuildCgroup(key, owner, root).processes()) for key in keys)


def is_cgroup_writable() -> bool:
    """Return whether this user may create groups that limit builds."""
    places = [ROOT] if (ROOT / "cgroup.controllers").is_file() else [ROOT / each for each in ("memory", "pids", "cpu")]
    return all(os.access(place, os.W_OK) for place in places)


def remove_groups(owner: str, root: Path = ROOT) -> None:
    """Remove the groups of this owner's finished builds.

    Groups of other owners stay, even empty ones: a build that is about to start has already set its limits in its
    group.
    """
    for parent in {*root.glob(PARENT), *root.glob(f"*/{PARENT}")}:
        _remove(parent / _path("", owner).name)
        with contextlib.suppress(OSError):
            parent.rmdir()


def remove_unused_groups(owner: str, root: Path = ROOT) -> None:
    """Remove the groups of this owner's builds that ended long ago; a group with a process stays.

    A kernel has room for some ten thousand groups, and each directory and name of an application is another key.
    Without room for its group, a build would run without limits.
    """
    of_owner, before = BuildCgroup("", owner, root), time.time() - UNUSED
    for above in {of_owner.directory(controller) for controller in ("memory", "pids", "cpu")}:
        with contextlib.suppress(OSError):  # another build may remove a group meanwhile
            for group in above.glob("*"):
                if KEY.fullmatch(group.name) and group.stat().st_mtime < before:
                    _remove(group)


@contextlib.contextmanager
def lock_groups(root: Path, seconds: float = LOCK) -> Iterator[None]:
    """Let only one build of this machine remove and prepare groups at a time.

    After `seconds`, go on without the lock: any user of the machine can hold it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            directory = os.open(root, os.O_RDONLY)
            stack.callback(os.close, directory)
            until = time.monotonic() + seconds
            while not try_lock(directory) and time.monotonic() < until:
                time.sleep(POLL)
        yield


def _remove(directory: Path) -> None:
    for inner, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            Path(inner).rmdir()


@contextlib.contextmanager
def suppress_if_gone(*more: int) -> Iterator[None]:
    """Suppress errors that mean that a group or a process has ended, and errors with the numbers in `more`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (*GONE, *more):
            raise


def _files(directory: Path, name: str) -> Iterator[Path]:
    """Yield the files with this name in a group and in the groups below it; groups may disappear meanwhile."""

    def failed(error: OSError) -> None:
        with suppress_if_gone():
            raise error

    for inner, _, files in os.walk(directory, onerror=failed):
        if name in files:
            yield Path(inner) / name


def _read(file: Path) -> str:
    with suppress_if_gone():
        return file.read_text(encoding="ascii").strip()
    return ""


def _is_reached(peak: Path, limit: Path) -> bool:
    """Return whether a peak is as high as its limit; False if a file is gone or contains `max`."""
    used, most = _read(peak), _read(limit)
    return used.isdigit() and most.isdigit() and int(used) >= int(most)


def _count_events(file: Path, event: str) -> int:
    words = dict(line.split(" ", 1) for line in _read(file).splitlines() if " " in line)
    return int(words.get(event, "0"))
