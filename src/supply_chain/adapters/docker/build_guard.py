"""Guard of a running build: measures what its steps use, and ends the build if it exceeds a limit."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from pathlib import Path

from supply_chain.adapters.docker.build_cgroup import BuildCgroup, lock_groups, remove_unused_groups
from supply_chain.adapters.docker.engine_memory import EngineMemory
from supply_chain.adapters.docker.free_space import FreeSpace
from supply_chain.adapters.docker.step_mounts import find_written_directories
from supply_chain.adapters.files.selection import measure_bytes
from supply_chain.adapters.process.cancellation import Cancellation, get_current_cancellation
from supply_chain.adapters.process.command import REST, CommandResult
from supply_chain.development.build import BuildOrder
from supply_chain.development.separation import BuildLimits
from supply_chain.errors import BuildLimitExceeded, Cancelled, ToolTimedOut
from supply_chain.text import format_mebibytes

INTERVAL = 0.5
"""Seconds between two measurements."""
log = logging.getLogger("supply_chain.build")
OUT_OF_MEMORY = re.compile(r"exit code: 137|annot allocate memory|ut of memory|MemoryError|signal: killed")


@dataclass(frozen=True)
class LocalEngine:
    """What can be measured of an engine on this machine; nothing of one on another machine."""

    storage: tuple[Path, ...] = ()
    """Where it stores its images."""
    process: int | None = None
    """Id of its process; None if it cannot be seen."""

    def make_limit_checks(
        self, limits: BuildLimits, builds: Callable[[], int], image: int
    ) -> tuple[Callable[[], str], ...]:
        """Return functions that check, like a guard's `check_limits`, the limits of what builds share.

        `builds` and `image` are those of `FreeSpace`.
        """
        space = [FreeSpace(self.storage, limits, builds, image).check_limits] if self.storage else []
        memory = [EngineMemory(self.process, limits, builds).check_limits] if self.process else []
        return (*space, *memory)


REMOTE_ENGINE = LocalEngine()
"""An engine on another machine, of which nothing can be measured."""


@dataclass
class BuildGuard:
    """Watches the steps of one build.

    `broken` is the reason why the guard ended the build, as a clause of a sentence; it is empty if it did not.
    """

    group: BuildCgroup
    limits: BuildLimits
    shared: tuple[Callable[[], str], ...] = ()
    """The measures of what all builds on this machine share; see `LocalEngine.measures`."""
    storage: tuple[Path, ...] = ()
    """Where the engine stores its images; see `LocalEngine.storage`."""
    broken: str = ""
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs; cancel the block if a limit is exceeded or cannot be measured.

        `walk` takes longer the more files the steps have. It runs in its own thread, so that it does not delay
        `check_limits`.
        """
        with get_current_cancellation().nested() as scope:
            self._ends_build(scope, self._check_shared)  # the first call records what later ones are compared with
            threads = [
                threading.Thread(target=copy_context().run, args=(self._watch, scope, *each), daemon=True)
                for each in ((self.check_limits, 0), (self.walk, REST))
            ]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._over.set()
                for thread in threads:
                    thread.join()

    def _watch(self, scope: Cancellation, look: Callable[[], str], rest: float) -> None:
        pause = INTERVAL
        while not self._over.wait(pause):
            began = time.monotonic()
            if self._ends_build(scope, look):
                return
            pause = max(INTERVAL, rest * (time.monotonic() - began))

    def _ends_build(self, scope: Cancellation, look: Callable[[], str]) -> bool:
        """Return whether the build was ended because of what `look` found."""
        try:
            reason = look()
        except Exception as error:  # noqa: BLE001  after any error, the steps' usage is unknown
            reason = f"its guard could not look at what its steps use: {type(error).__name__}: {error}"
        if reason:
            self.broken = self.broken or reason
            scope.cancel()
        return bool(reason)

    def check_limits(self) -> str:
        """Return the limit that is exceeded now, as a clause of a sentence; empty if none. Does not block.

        Raises `OSError` or `ValueError` if the kernel does not provide the numbers.
        """
        if self._reached() == "processes":
            return describe_process_limit(self.limits)
        return self._check_shared()

    def _check_shared(self) -> str:
        return next(filter(None, (look() for look in self.shared)), "")

    def walk(self) -> str:
        """Return, as `check_limits` does, whether the running steps have written too much; walk through their files.

        It ends when the build ends.
        """
        if not self.group.limited:
            return ""
        too_much = self._is_too_much_written()
        if too_much and not self._over.is_set():
            self._over.wait(INTERVAL)  # a step that has just started may still have had the host's mounts
            too_much = self._is_too_much_written()
        return f"its running steps have written more than {format_mebibytes(self.limits.disk)}" if too_much else ""

    def _is_too_much_written(self) -> bool:
        over, most, storage = self._over.is_set, self.limits.disk, self.storage
        return sum(measure_written_bytes(each, most, over, storage) for each in self.group.processes()) > most

    def explain(self, last_words: str) -> str:
        """Return the limit that ended a failed build, as a clause of a sentence; empty if none did.

        `last_words` is the end of the builder's output. It is needed because steps can reach their memory limit, free
        pages, and continue.
        """
        reached = ""
        with contextlib.suppress(OSError, ValueError):  # the build has failed already
            reached = self._reached()
        if reached == "memory" and OUT_OF_MEMORY.search(last_words):
            return f"its steps needed more than their {format_mebibytes(self.limits.memory)} of memory"
        return self.broken or (describe_process_limit(self.limits) if reached == "processes" else "")

    def _reached(self) -> str:
        return self.group.find_reached_limit() if self.group.limited else ""


def describe_process_limit(limits: BuildLimits) -> str:
    """Return the reason for a build that reached its process limit, as a clause of a sentence."""
    return f"its steps wanted more than {limits.processes} processes"


def measure_written_bytes(process: int, most: int, over: Callable[[], bool], storage: tuple[Path, ...] = ()) -> int:
    """Return the bytes that a step has written, found by one of its processes; see `find_written_directories`.

    Counting stops above `most` bytes, or when `over` returns True.
    """
    total = 0
    with find_written_directories(process, storage) as places:
        for place in places:
            total += measure_bytes(place, most - total, over)
            if total > most:
                break
    return total


def prepare_group(key: str, owner: str, limits: BuildLimits) -> BuildCgroup:
    """Return the control group of a key with its limits set and its counters reset.

    Call it once for all orders that share the key. If this user cannot set the limits, log a warning; the guard then
    checks only the disk. Groups of builds that ended long ago are removed before.
    """
    group = BuildCgroup(key, owner)
    with lock_groups(group.root):  # another build would remove an old group that this one is about to use
        remove_unused_groups(owner, group.root)
        is_limited = group.limit(limits)
    if is_limited:
        return group
    log.warning(
        "The limits of memory, processes and processors could not be set: the build runs without them. "
        "`cscm doctor` says why (build limits)."
    )
    return replace(group, limited=False)


def run_guarded(
    order: BuildOrder,
    group: BuildCgroup,
    limits: BuildLimits,
    engine: LocalEngine,
    build: Callable[[], CommandResult],
) -> CommandResult:
    """Run a build under the limits of its group; raise `BuildLimitExceeded` if a limit ended it."""
    shared = engine.make_limit_checks(limits, group.running, order.max_size)
    guard, outer = BuildGuard(group, limits, shared, engine.storage), get_current_cancellation()
    try:
        with guard.watching():
            done = build()
    except (Cancelled, ToolTimedOut) as error:
        ended = "" if outer.cancelled else guard.explain(str(error))
        if ended:
            raise _limit_error(order, ended) from error
        raise
    if done.status != 0 and (ended := guard.explain(done.stderr[-4000:])):
        raise _limit_error(order, ended)
    return done


def _limit_error(order: BuildOrder, why: str) -> BuildLimitExceeded:
    return BuildLimitExceeded(
        f"The build of {order.target or 'the image'} was ended, as {why}.\n"
        "Look at what its steps do; what a build may use is set in the block of the container host."
    )
