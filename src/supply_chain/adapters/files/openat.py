"""Files below a directory that somebody else may change meanwhile: opened part by part, and never through a link.

openat(2) with O_NOFOLLOW. What is swapped for a link while it is read is an error; nothing leads out of the directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from supply_chain.errors import SourceInvalid

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without O_NONBLOCK, opening a pipe would wait for a writer."""
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Nothing is there, or only by way of something that is no directory."""


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn the system's error about `path` into `SourceInvalid`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            raise SourceInvalid(f"{path} changed while it was read.\nRun it again when nothing changes it.") from error
        if error.errno in ABSENT:
            raise SourceInvalid(
                f"{path} is a link or lies behind one, or it changed while it was read.\n"
                "Put what the link leads to in its place; run it again when nothing changes it."
            ) from error
        raise SourceInvalid(
            f"{path} cannot be read: {error.strerror}\nMake it readable for the user that runs the chain, or remove it."
        ) from error


@contextlib.contextmanager
def directory_at(root: int, path: str) -> Iterator[int]:
    """A directory below `root`; "" is `root` itself. `OSError`."""
    at = os.open(".", DIRECTORY, dir_fd=root)
    try:
        for part in path.split("/") if path else ():
            below = os.open(part, DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


@contextlib.contextmanager
def directory_named(path: Path) -> Iterator[int]:
    """A directory by its whole path, of which no part may be a link. `OSError`."""
    root = os.open("/", DIRECTORY)
    try:
        with directory_at(root, str(path.absolute()).strip("/")) as directory:
            yield directory
    finally:
        os.close(root)


def place_of(directory: int) -> Path:
    """Where an open directory lies now, by the kernel's own account: no path is followed again. `SourceInvalid`.

    proc(5), "/proc/pid/fd/".
    """
    status, place = os.fstat(directory), Path(os.readlink(f"/proc/self/fd/{directory}"))  # noqa: PTH115 - as it is
    with contextlib.suppress(OSError):
        found = place.lstat()
        if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            return place
    raise SourceInvalid(f"{place} was moved or removed while it was read.\nRun it again when nothing changes it.")


@contextlib.contextmanager
def file_at(root: int, path: str) -> Iterator[int]:
    """A regular file below `root`, for reading. `OSError`."""
    above, _, name = path.rpartition("/")
    with directory_at(root, above) as directory:
        file = os.open(name, FILE, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.ENOENT, "not a regular file", path)
        yield file
    finally:
        os.close(file)


def names_at(root: int, path: str) -> list[str]:
    """What lies in a directory below `root`. `OSError`."""
    with directory_at(root, path) as directory:
        return os.listdir(directory)  # noqa: PTH208 - of a descriptor


def read_at(root: int, path: str, limit: int) -> bytes | None:
    """A file's content; None where there is none. `SourceInvalid` beyond `limit` bytes, and for other errors."""
    try:
        with naming(path), file_at(root, path) as file:
            content = b"".join(read_pieces(file, limit + 1))
    except SourceInvalid as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in ABSENT:
            return None
        raise
    if len(content) > limit:
        raise SourceInvalid(f"{path} has more than {limit} bytes.\nNothing that git writes there is that long.")
    return content


def read_pieces(file: int, limit: int, size: int = 1024 * 1024) -> Iterator[bytes]:
    """What is left to be read of an open file, `size` bytes at a time and `limit` at most."""
    while limit > 0 and (piece := os.read(file, min(size, limit))):
        limit -= len(piece)
        yield piece
