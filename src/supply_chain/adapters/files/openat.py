"""Reads below a directory that others may change meanwhile, never through a link.

Opens each path component separately with openat(2) and O_NOFOLLOW. If a component is replaced by a link during the
read, an error is raised; no path leads out of the directory.
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
"""Flags for files. Without O_NONBLOCK, opening a named pipe would wait for a writer."""
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Error numbers that mean: the path does not exist, or a component of it is not a directory."""


@contextlib.contextmanager
def translate_errors(path: str) -> Iterator[None]:
    """Translate an `OSError` about `path` into `SourceInvalid`."""
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
def open_directory(root: int, path: str) -> Iterator[int]:
    """Yield an open directory below `root`; "" is `root` itself. Raises `OSError`."""
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
def open_directory_by_path(path: Path) -> Iterator[int]:
    """Yield an open directory by its full path, no component of which may be a link. Raises `OSError`."""
    root = os.open("/", DIRECTORY)
    try:
        with open_directory(root, str(path.absolute()).strip("/")) as directory:
            yield directory
    finally:
        os.close(root)


def read_path(directory: int) -> Path:
    """Return the current path of an open directory; raise `SourceInvalid` if it was moved or removed.

    The kernel reports the path (proc(5), "/proc/pid/fd/"), so that no path is followed again.
    """
    status, place = os.fstat(directory), Path(os.readlink(f"/proc/self/fd/{directory}"))  # noqa: PTH115 - not normalized
    with contextlib.suppress(OSError):
        current = place.lstat()
        if (current.st_dev, current.st_ino) == (status.st_dev, status.st_ino):
            return place
    raise SourceInvalid(f"{place} was moved or removed while it was read.\nRun it again when nothing changes it.")


@contextlib.contextmanager
def open_file(root: int, path: str) -> Iterator[int]:
    """Yield a regular file below `root`, open for reading. Raises `OSError`."""
    above, _, name = path.rpartition("/")
    with open_directory(root, above) as directory:
        file = os.open(name, FILE, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.ENOENT, "not a regular file", path)
        yield file
    finally:
        os.close(file)


def list_names(root: int, path: str) -> list[str]:
    """Return the names in a directory below `root`. Raises `OSError`."""
    with open_directory(root, path) as directory:
        return os.listdir(directory)  # noqa: PTH208 - a file descriptor


def read_file(root: int, path: str, limit: int) -> bytes | None:
    """Return a file's content; None if there is no file.

    Raises `SourceInvalid` if the file has more than `limit` bytes, and for other errors.
    """
    try:
        with translate_errors(path), open_file(root, path) as file:
            content = b"".join(read_pieces(file, limit + 1))
    except SourceInvalid as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in ABSENT:
            return None
        raise
    if len(content) > limit:
        raise SourceInvalid(f"{path} has more than {limit} bytes.\nNothing that git writes there is that long.")
    return content


def read_pieces(file: int, limit: int, size: int = 1024 * 1024) -> Iterator[bytes]:
    """Yield the rest of an open file in pieces of `size` bytes, at most `limit` bytes in total."""
    while limit > 0 and (piece := os.read(file, min(size, limit))):
        limit -= len(piece)
        yield piece
