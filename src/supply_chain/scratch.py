"""Temporary directories that are removed even if their process is killed, and files that are written atomically.

The process that creates a directory locks it (flock(2)), and the lock ends with its process, however the process ends.
A directory without a lock was left by a killed process, and the next process removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from supply_chain.errors import DiskFull

PREFIX = "cscm-scratch-"
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def make_scratch_directory(name: str, place: Path | None = None) -> Iterator[Path]:
    """Yield a private temporary directory and remove it afterwards.

    The directory is below `place`, by default the system's directory for temporary files. Raise `DiskFull` if there is
    no space for what the block writes.
    """
    with translate_disk_full():
        where = place or Path(tempfile.gettempdir())
        _sweep_once(where)
        directory, lock = _create_locked(name, where)
        try:
            with directory as path:
                yield Path(path)
        finally:
            os.close(lock)


@contextlib.contextmanager
def translate_disk_full() -> Iterator[None]:
    """Raise `DiskFull` if the block fails because there is no space left."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f" at {error.filename}" if error.filename else ""
        raise DiskFull(
            f"There is no space left{where}: {error.strerror}\n"
            f"Make room (temporary files go to {tempfile.gettempdir()}), and run the step again."
        ) from error


def sweep(place: Path | None = None) -> tuple[Path, ...]:
    """Remove the directories below `place` that killed processes of this user left, and return their paths."""
    left = []
    for path in sorted((place or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):  # it belongs to another user, does not exist any more, or is in use
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    shutil.rmtree(path, ignore_errors=True)
                    left.append(path)
            finally:
                os.close(lock)
    return tuple(left)


@functools.cache
def _sweep_once(place: Path) -> None:
    """Sweep a directory once in the life of this process."""
    sweep(place)


def _create_locked(name: str, place: Path) -> tuple[tempfile.TemporaryDirectory[str], int]:
    """Create a directory and lock it; repeat if another process removes it before it is locked."""
    while True:
        directory = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{name}-", dir=place)
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(directory.name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(directory.name).stat()
            except (BlockingIOError, FileNotFoundError):
                os.close(lock)
            else:
                return directory, lock
        directory.cleanup()


def write_private(path: Path, content: str | bytes, *, lasting: bool = True) -> None:
    """Write a file atomically that only this user can read; on an error the old file stays.

    A file that is not `lasting` is not synced to the disk: after a crash of the machine it may be truncated.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
