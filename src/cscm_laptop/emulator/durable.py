"""Hold back every answer until its state is on disk.

A write changes memory first. Its answer waits until a snapshot that includes the change was written (temporary file,
fsync, rename, fsync of the directory). Reads wait for the writes that they may have seen. A client therefore never
gets an answer that the end of the process or of the machine could undo.
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
    """Replace the file at `path` by `data` atomically, readable by the owner alone."""
    temporary = path.with_name(path.name + TEMPORARY)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames into or out of the directory durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(directory: Path) -> None:
    """Remove the temporary files of interrupted writes."""
    for leftover in directory.glob(f"*{TEMPORARY}"):
        leftover.unlink()


class Part:
    """State of one service: what is in memory, and which of its changes are on disk.

    `snapshot` is called on the event loop, where no handler can run meanwhile, so it is consistent. Concurrent
    changes share a write: a change that arrives during one waits for the next.
    """

    def __init__(self, path: Path, snapshot: Callable[[], bytes], write: Write = write_durably) -> None:
        self._path, self._snapshot, self._write = path, snapshot, write
        self._lock = asyncio.Lock()
        self._changes = 0
        self._saved = 0
        self._last = b""

    def changed(self) -> None:
        """Note that memory may now differ from the disk."""
        self._changes += 1

    async def settle(self) -> None:
        """Wait until every change so far is on disk; raise what the write raises."""
        changes = self._changes
        if self._saved < changes:
            # Shielded: a client that disconnects must not end a write that others wait for.
            await asyncio.shield(asyncio.ensure_future(self._save(changes)))

    async def _save(self, changes: int) -> None:
        async with self._lock:
            if self._saved >= changes:
                return
            covered, data = self._changes, self._snapshot()
            mark = hashlib.sha256(data).digest()
            if mark != self._last:
                await asyncio.to_thread(self._write, self._path, data)
            self._last, self._saved = mark, covered


def holding(send: Send, settled: Callable[[], Awaitable[None]]) -> Send:
    """Return a `send` that begins an answer only after `settled` has returned."""

    async def send_settled(message: Message) -> None:
        if message["type"] == "http.response.start":
            await settled()
        await send(message)

    return send_settled


async def settle_all(parts: Iterable[Part], *, changed: bool) -> None:
    """Wait until these parts are on disk; if `changed`, note a change in each first."""
    waiting = list(parts)
    if changed:
        for part in waiting:
            part.changed()
    await asyncio.gather(*(part.settle() for part in waiting))
