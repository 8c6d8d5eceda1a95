"""Turns: what two runs must not do at once for the same application.

On one machine a locked file keeps them apart, and a lock ends with its process, however that ends. Between
machines Prefect's concurrency limit does, whose lease ends a minute after a run that was killed; where the
file says that it was one of this machine, its lease is given back at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import AcquireConcurrencySlotTimeoutError, concurrency
from prefect.concurrency.context import ConcurrencyContext
from prefect.settings import get_current_settings
from pydantic import TypeAdapter, ValidationError

from orchestration.steps import invocation
from supply_chain.model.image import Frozen

DEPLOY = "deploy"
NEXT = " next"
"""How the name ends under which a run waits for a turn."""
WAIT = 900
"""Seconds to wait for the run whose turn it is."""
LEASE = 60
"""Seconds after which the turn of a run that died is over; one that lives renews it. Prefect allows no fewer."""
ANSWER = 15.0
"""Seconds to wait for the server at least, however short the wait for another run: a busy server is no such run."""
POLL = 0.2
REMEMBERED = 50


class Holder(Frozen):
    """A run that has a turn, or did not end well with it: what marks it, and its lease until that is given back."""

    run: str
    lease: UUID | None = None


HOLDERS: TypeAdapter[tuple[Holder, ...]] = TypeAdapter(tuple[Holder, ...])


_held: ContextVar[frozenset[str]] = ContextVar("held", default=frozenset())
"""The turns that this run has already."""


@asynccontextmanager
async def turn(name: str, wait: float | None = None) -> AsyncIterator[tuple[str, ...]]:
    """Wait for, and hold, the one turn of this name; the runs of this machine that had it and did not end well.

    What a run does while it has the turn, a flow within it too, has it with the run.

    These are named until a run has ended well after them: it is for the block to clear away what they left.
    Raises `TimeoutError` after so many seconds, `WAIT` unless said otherwise.
    """
    if name in _held.get():
        yield ()
        return
    token = _held.set(_held.get() | {name})
    try:
        async with _turn(name, time.monotonic() + (WAIT if wait is None else wait)) as before:
            yield before
    finally:
        _held.reset(token)


@asynccontextmanager
async def next_turn(name: str, wait: float | None = None) -> AsyncIterator[bool]:
    """Hold the turn of this name, unless another run of this machine waits for it already: then give False at once.

    What that run looks at once it has its turn is what this one would have looked at, so that of any number of runs
    of one kind one works and one waits. Raises `TimeoutError` as `turn` does.
    """
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as entrance:
            try:
                await entrance.enter_async_context(_alone_here(f"{name}{NEXT}", time.monotonic()))
            except TimeoutError:
                is_first = False
            else:
                is_first = True
                await stack.enter_async_context(turn(name, wait))
        yield is_first


@asynccontextmanager
async def _turn(name: str, until: float) -> AsyncIterator[tuple[str, ...]]:
    async with _alone_here(name, until) as file, get_client() as client:
        before = _read(file)
        for holder in before:
            if holder.lease:
                await client.release_concurrency_slots_with_lease(lease_id=holder.lease)
        known = tuple(Holder(run=holder.run) for holder in before)[-REMEMBERED:]
        mine = Holder(run=invocation())
        _write(file, (*known, mine))
        await client.upsert_global_concurrency_limit_by_name(name=name, limit=1)
        left = max(ANSWER, until - time.monotonic())
        async with concurrency([name], strict=True, timeout_seconds=left, lease_duration=LEASE):
            _write(file, (*known, mine.model_copy(update={"lease": _lease()})))
            yield tuple(holder.run for holder in known)
        _write(file, ())


def left_turns() -> tuple[str, ...]:
    """The turns on this machine that nobody has, and that name runs that did not end well with them.

    To look at one locks it for a moment. Those under which a run waits name nobody and are left alone: a push that
    found one locked would leave its image to a run that is not there.
    """
    left = []
    for path in sorted((get_current_settings().home / "turns").glob("*")):
        if path.name.endswith(NEXT):
            continue
        with _opened(path) as file:
            if _locks(file) and _read(file):
                left.append(unquote(path.name))
    return tuple(left)


def _lease() -> UUID | None:
    """The lease that was granted last in this flow."""
    context = ConcurrencyContext.get()
    return context.cleanup_lease_ids[-1] if context and context.cleanup_lease_ids else None


@asynccontextmanager
async def _alone_here(name: str, until: float) -> AsyncIterator[int]:
    """The locked file of a turn; Prefect's own directory is that of one server's client, or one user's."""
    directory = get_current_settings().home / "turns"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(directory / quote(name, safe=" ")) as file:
        while not _locks(file):
            if time.monotonic() > until:
                raise AcquireConcurrencySlotTimeoutError(f"{name}: another run had the turn for too long")
            await asyncio.sleep(POLL)
        yield file


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _locks(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: int) -> tuple[Holder, ...]:
    """Who is named; a file that was cut off in the middle names nobody."""
    try:
        return HOLDERS.validate_json(os.pread(file, 1024 * 1024, 0))
    except ValidationError:
        return ()


def _write(file: int, holders: tuple[Holder, ...]) -> None:
    content: Any = HOLDERS.dump_json(holders) if holders else b""
    os.ftruncate(file, 0)
    os.pwrite(file, content, 0)


def turn_name(step: str, *about: str) -> str:
    """`deploy staging team:hello`. Prefect takes no slash in a name."""
    return " ".join((step, *about)).replace("/", ":")


def turn_about(name: str) -> tuple[str, ...]:
    """The step and what it is about, of a name that `turn_name` made."""
    return tuple(word.replace(":", "/") for word in name.split(" "))
