"""Takes the snapshot of the source that a run builds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path

from orchestration.steps import run_in_thread
from supply_chain.adapters.git.snapshot import read_declaration_at, take_snapshot
from supply_chain.development.snapshot import IgnoreMatcher, Snapshot

_taken: ContextVar[tuple[Path, str | None, Snapshot] | None] = ContextVar("taken", default=None)
"""The snapshot that this run has already taken, with its path and revision."""


@asynccontextmanager
async def open_snapshot(path: Path, revision: str | None, ignores: IgnoreMatcher) -> AsyncIterator[Snapshot]:
    """Yield the snapshot of a run: of the application's current files, or of a commit.

    It is taken at the first call. A subflow of a run that has one uses that snapshot. `ignores` reads ignore files.
    """
    before = _taken.get()
    if before and before[:2] == (path, revision):
        yield before[2]
        return
    stack = ExitStack()
    try:
        snapshot = await run_in_thread(stack.enter_context, take_snapshot(path, revision, ignores))
        token = _taken.set((path, revision, snapshot))
        try:
            yield snapshot
        finally:
            _taken.reset(token)
    finally:
        await run_in_thread(stack.close)


async def read_application(path: Path, revision: str | None) -> str:
    """Return the application's name, read without a snapshot."""
    return (await run_in_thread(read_declaration_at, path, revision)).name
