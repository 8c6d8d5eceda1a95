"""The files of a build context: what `.dockerignore` leaves, tracked by git or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from docker.utils.build import exclude_paths

IGNORE = ".dockerignore"


def context_files(directory: Path) -> tuple[str, ...]:
    """Paths relative to `directory`, sorted; links are left out, for their targets are in here or outside."""
    paths = (directory / name for name in exclude_paths(str(directory), _patterns(directory / IGNORE)))
    found = (path for path in paths if path.is_file() and not path.is_symlink())
    return tuple(sorted(str(path.relative_to(directory)) for path in found))


def portions(files: Sequence[str], size: int = 1000) -> Iterator[list[str]]:
    """The files as arguments, so many at a time that a command line holds them; none looks like an option."""
    for start in range(0, len(files), size):
        yield [f"./{name}" for name in files[start : start + size]]


def _patterns(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = (line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
