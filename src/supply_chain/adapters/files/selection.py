"""Selection of the files that a check reads, and measurement of the space that files take."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from supply_chain.text import pluralize, truncate_lines

PORTION = 1000
"""Files per command line."""


def list_files(directory: Path) -> tuple[str, ...]:
    """Return the sorted paths of the regular files, relative to the directory.

    Links are left out: a link's target in this directory is listed itself.
    """
    files: list[str] = []
    directories = [""]
    while directories:
        above = directories.pop()
        with os.scandir(directory / above) as entries:
            for entry in entries:
                path = f"{above}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    directories.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    files.append(path)
    return tuple(sorted(files))


def list_links(directory: Path) -> dict[str, str]:
    """Return link → file, both relative to the directory, for the symbolic links that lead to a file in it."""
    root = directory.resolve()
    links = (path for path in directory.rglob("*") if path.is_symlink() and path.is_file())
    targets = ((link, link.resolve()) for link in links)
    return {
        str(link.relative_to(directory)): str(target.relative_to(root))
        for link, target in targets
        if target.is_relative_to(root)
    }


def measure_bytes(place: Path, most: int, over: Callable[[], bool] = lambda: False) -> int:
    """Return the bytes that files below a directory occupy.

    Counting stops above `most` bytes, or when `over` returns True. Files that disappear meanwhile or cannot be read do
    not count. Raises `OSError` for a directory whose path is too long to be opened: what is in it would not count.
    """
    total, places = 0, [place]
    while places:
        with _suppress_unread(), os.scandir(places.pop()) as entries:
            for entry in entries:
                if total > most or over():
                    return total
                with _suppress_unread():
                    if entry.is_dir(follow_symlinks=False):
                        places.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


@contextlib.contextmanager
def _suppress_unread() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise


def split_arguments(files: Sequence[str]) -> Iterator[list[str]]:
    """Yield the files as command line arguments, `PORTION` at a time; no argument looks like an option."""
    for start in range(0, len(files), PORTION):
        yield [f"./{name}" for name in files[start : start + PORTION]]


def describe_files(noun: str, rest: str, files: Sequence[str], most: int = 20) -> tuple[str, ...]:
    """Return a sentence about files, such as `2 binary files not read: a.png, b.png`; none if there are no files."""
    return (f"{pluralize(len(files), noun)} {rest}: {', '.join(truncate_lines(most, files))}",) if files else ()
