"""The files that a check looks at, and what files take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from supply_chain.text import counted, first_of

PORTION = 1000
"""Files in one command line."""


def files_below(directory: Path) -> tuple[str, ...]:
    """Paths relative to the directory, sorted. Links are left out: what they lead to lies in here by itself."""
    found: list[str] = []
    directories = [""]
    while directories:
        above = directories.pop()
        with os.scandir(directory / above) as entries:
            for entry in entries:
                path = f"{above}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    directories.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    found.append(path)
    return tuple(sorted(found))


def bytes_below(place: Path, most: int, over: Callable[[], bool] = lambda: False) -> int:
    """The bytes that files below a place occupy; counting ends above `most`, and when it is `over`.

    What goes meanwhile, and what cannot be looked at, counts nothing.
    """
    total, places = 0, [place]
    while places:
        with contextlib.suppress(OSError), os.scandir(places.pop()) as entries:
            for entry in entries:
                if total > most or over():
                    return total
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        places.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def portions(files: Sequence[str]) -> Iterator[list[str]]:
    """The files as arguments, so many at a time that a command line holds them; none looks like an option."""
    for start in range(0, len(files), PORTION):
        yield [f"./{name}" for name in files[start : start + PORTION]]


def told(noun: str, rest: str, files: Sequence[str], most: int = 20) -> tuple[str, ...]:
    """A sentence about files, such as `2 binary files not read: a.png, b.png`; none where there are none."""
    return (f"{counted(len(files), noun)} {rest}: {', '.join(first_of(most, files))}",) if files else ()
