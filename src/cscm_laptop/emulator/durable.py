"""No answer before its state is on disk.

A write changes memory first; its answer is held back until a snapshot that has the change in it was
written (temporary file, fsync, rename, fsync of the directory). Reads wait for the writes they may
have seen. So nobody is ever told what the end of the process or of the machine could undo.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from cscm_laptop.emulator.asgi import Message, Send

TEMPORARY = ".tmp"

Write = Callable[[Path, bytes], None]


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` (readable by the owner alone) in place of what is at `path`: all of it or nothing."""
    temporary = path.with_name(path.name + TEMPORARY)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make what was renamed into or out of the directory last."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(directory: Path) -> None:
    """Remove what an interrupted write left behind."""
    for leftover in directory.glob(f"*{TEMPORARY}"):
        leftover.unlink()


class Part:
    """One service's state: what memory holds, and how much of it the disk has.

    `snapshot` is called on the event loop, where no handler can run meanwhile, so it is consistent.
    Concurrent changes share a write: whoever comes during one waits for the next.
    """

    def __init__(self, path: Path, snapshot: Callable[[], bytes], write: Write = write_durably) -> None:
        self._path, self._snapshot, self._write = path, snapshot, write
        self._turn = asyncio.Lock()
        self._changes = 0
        self._saved = 0
        self._last = b""

    def changed(self) -> None:
        """Memory may now differ from the disk."""
        self._changes += 1

    async def settle(self) -> None:
        """Return when every change so far is on disk; raises what the writing raises."""
        wanted = self._changes
        if self._saved < wanted:
            # Shielded: a client that leaves must not end a write that others wait for.
            await asyncio.shield(asyncio.ensure_future(self._save(wanted)))

    async def _save(self, wanted: int) -> None:
        async with self._turn:
            if self._saved >= wanted:
                return
            covered, data = self._changes, self._snapshot()
            mark = hashlib.sha256(data).digest()
            if mark != self._last:
                await asyncio.to_thread(self._write, self._path, data)
            self._last, self._saved = mark, covered


def holding(send: Send, settled: Callable[[], Awaitable[None]]) -> Send:
    """A `send` that lets an answer begin only once `settled` has returned."""

    async def held(message: Message) -> None:
        if message["type"] == "http.response.start":
            await settled()
        await send(message)

    return held


async def settle_all(parts: Iterable[Part], *, changed: bool) -> None:
    """Return when these parts are on disk, after noting a change in each if there may be one."""
    waiting = list(parts)
    if changed:
        for part in waiting:
            part.changed()
    await asyncio.gather(*(part.settle() for part in waiting))
