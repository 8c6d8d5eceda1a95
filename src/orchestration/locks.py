"""Provides locks, which prevent two runs from doing the same work for one application at the same time.

On one machine, a locked file excludes other runs; the lock ends with its process, however that ends. Between machines,
a concurrency limit of Prefect does. Its lease ends a minute after a run was killed. If the file says that the run was
on this machine, the lease is released at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import AcquireConcurrencySlotTimeoutError, concurrency
from prefect.concurrency.context import ConcurrencyContext
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings
from pydantic import TypeAdapter, ValidationError

from orchestration.steps import make_run_mark
from supply_chain.adapters.files.file_lock import try_lock
from supply_chain.errors import LockBusy
from supply_chain.model.image import Model

NEXT = " next"
"""Ending of the lock's name under which a run waits for a lock."""
WAIT = 900
"""Seconds to wait for the run that holds the lock."""
LEASE = 60
"""Seconds after which the lock of a dead run ends; a live run renews it. Prefect allows no smaller value."""
ANSWER = 15.0
"""Minimum seconds to wait for the server, however short the wait for another run is: a busy server is not a held lock.
"""
POLL = 0.2
REMEMBERED = 50


class LockKind(StrEnum):
    """The work that only one run may do at a time: the first word of a lock's name."""

    BUILD = "build"
    CATCH_UP = "catch-up"
    CHAIN = "chain"
    CURATE = "curate"
    DEPLOY = "deploy"
    INVENTORY = "inventory"
    LIFECYCLE = "lifecycle"
    PROMOTE = "promote"
    RESCAN = "rescan"


class Holder(Model):
    """A run that holds a lock, or held it and did not end well; `run` is its `make_run_mark`.

    `lease` is its lease until that is released.
    """

    run: str
    lease: UUID | None = None


HOLDERS: TypeAdapter[tuple[Holder, ...]] = TypeAdapter(tuple[Holder, ...])


_held: ContextVar[frozenset[str]] = ContextVar("held", default=frozenset())
"""Names of the locks that this run holds."""


@asynccontextmanager
async def run_lock(name: str, wait: float | None = None) -> AsyncIterator[tuple[str, ...]]:
    """Acquire the lock of this name; yield the runs of this machine that held it and did not end well.

    The lock belongs to the run: flows within it do not wait for the lock again.

    The yielded runs are named each time until a run has ended well after them: the block must clean up what they left.
    Raises `LockBusy` after `wait` seconds, by default `WAIT`.
    """
    if name in _held.get():
        yield ()
        return
    token = _held.set(_held.get() | {name})
    try:
        async with _acquire(name, time.monotonic() + (WAIT if wait is None else wait)) as before:
            yield before
    finally:
        _held.reset(token)


@asynccontextmanager
async def next_run_lock(name: str, wait: float | None = None) -> AsyncIterator[bool]:
    """Acquire the lock of this name and yield True, or yield False at once if another run of this machine waits for it.

    The waiting run will see, once it holds the lock, everything that this run would see. So of any number of runs of
    one kind, one works and one waits. Raises `LockBusy` as `run_lock` does.
    """
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as entrance:
            try:
                await entrance.enter_async_context(_lock_file(f"{name}{NEXT}", time.monotonic()))
            except LockBusy:
                is_first = False
            else:
                is_first = True
                await stack.enter_async_context(run_lock(name, wait))
        yield is_first


@asynccontextmanager
async def _acquire(name: str, until: float) -> AsyncIterator[tuple[str, ...]]:
    async with _lock_file(name, until) as file, get_client() as client:
        before = _read(file)
        for holder in before:
            if holder.lease:
                await client.release_concurrency_slots_with_lease(lease_id=holder.lease)
        earlier = tuple(Holder(run=holder.run) for holder in before)[-REMEMBERED:]
        mine = Holder(run=make_run_mark())
        _write(file, (*earlier, mine))
        with suppress(ObjectAlreadyExists):  # a run on another machine has just created it
            await client.upsert_global_concurrency_limit_by_name(name=name, limit=1)
        left = max(ANSWER, until - time.monotonic())
        try:
            async with concurrency([name], strict=True, timeout_seconds=left, lease_duration=LEASE):
                _write(file, (*earlier, mine.model_copy(update={"lease": _last_lease()})))
                yield tuple(holder.run for holder in earlier)
        except AcquireConcurrencySlotTimeoutError as error:
            raise _busy(name) from error
        _write(file, ())


def _busy(name: str) -> LockBusy:
    return LockBusy(
        f"Another run held the lock {name!r} for too long.\n"
        "Look in the UI for a run that hangs, cancel it, and run this again."
    )


def find_abandoned_locks() -> tuple[str, ...]:
    """Return the locks on this machine that nobody holds, and that name runs that did not end well.

    Each file is locked for a moment to check it. Locks under which a run waits for another lock name no runs and are
    skipped: a push that found one locked would rely on a waiting run that does not exist.
    """
    left = []
    for path in sorted((get_current_settings().home / "locks").glob("*")):
        if path.name.endswith(NEXT):
            continue
        with _open(path) as file:
            if try_lock(file) and _read(file):
                left.append(unquote(path.name))
    return tuple(left)


def _last_lease() -> UUID | None:
    """Return the lease that was granted last in this flow."""
    context = ConcurrencyContext.get()
    return context.cleanup_lease_ids[-1] if context and context.cleanup_lease_ids else None


@asynccontextmanager
async def _lock_file(name: str, until: float) -> AsyncIterator[int]:
    """Yield the locked file of a lock; it is in Prefect's home, which belongs to one server's client or one user."""
    directory = get_current_settings().home / "locks"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _open(directory / quote(name, safe=" ")) as file:
        while not try_lock(file):
            if time.monotonic() > until:
                raise _busy(name)
            await asyncio.sleep(POLL)
        yield file


@contextmanager
def _open(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _read(file: int) -> tuple[Holder, ...]:
    """Return the runs that the file names; a file that was cut off in the middle names none."""
    try:
        return HOLDERS.validate_json(os.pread(file, 1024 * 1024, 0))
    except ValidationError:
        return ()


def _write(file: int, holders: tuple[Holder, ...]) -> None:
    content: Any = HOLDERS.dump_json(holders) if holders else b""
    os.ftruncate(file, 0)
    os.pwrite(file, content, 0)


def lock_name(kind: LockKind, *about: str) -> str:
    """Return the name of a lock, such as `deploy staging team:hello`; Prefect allows no slash in a name."""
    return " ".join((kind, *about)).replace("/", ":")


def parse_lock_name(name: str) -> tuple[str, ...]:
    """Return the kind and its subject from a name that `lock_name` made."""
    return tuple(word.replace(":", "/") for word in name.split(" "))
