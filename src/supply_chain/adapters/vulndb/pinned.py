"""The database as it is at this moment, for a run that must not see another one before its end."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.vulndb.current import (
    MODEL,
    bare_environment,
    grype_environment,
    knows,
    read_database,
    unusable,
)
from supply_chain.errors import ToolFailed
from supply_chain.scratch import scratch
from supply_chain.vulnerability.findings import Database, Distribution

VALID_TIMEOUT = 300.0


@dataclass(frozen=True)
class Pinned:
    """A private copy of a database: the same files by hard links, which a newer database does not touch.

    It was whole when it was pinned, by grype's own check of its content. Its file is looked at before and after
    each scan instead of being read whole again: `database` raises `DatabaseUnusable` where somebody changed it.
    """

    directory: Path
    found: Database
    stat: tuple[int, ...]
    _known: dict[Distribution, bool] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """grype's, for a scan with this database."""
        return {**grype_environment(self.directory), "GRYPE_DB_VALIDATE_BY_HASH_ON_START": "false"}

    def database(self) -> Database:
        """Which one it is."""
        if _stat(self.directory) != self.stat:
            raise unusable(self.directory, "its file was changed while scans used it")
        return self.found

    def knows(self, distribution: Distribution) -> bool:
        """Whether it holds anything about a distribution; looked up once for each."""
        if distribution not in self._known:
            self._known[distribution] = knows(self.directory, distribution)
        return self._known[distribution]


@contextlib.contextmanager
def pinned(grype: Tool, directory: Path) -> Iterator[Pinned]:
    """The database that is in use in `directory`, until the block ends; `DatabaseUnusable` where there is none."""
    read_database(directory)  # tells what is wrong with it, if anything
    with scratch("pinned", directory) as place:
        _link(directory, place / MODEL)
        tool = grype.with_environment(**bare_environment(place))
        try:
            tool.run("db", "status", timeout=VALID_TIMEOUT, quiet=True)
        except ToolFailed as error:
            raise unusable(directory, str(error)) from error
        yield Pinned(place, read_database(place).facts, _stat(place))


def _link(directory: Path, place: Path) -> None:
    """Link the files of the database that is there now; begun anew where it was replaced and removed meanwhile."""
    for attempt in range(5):
        place.mkdir()
        try:
            for file in (directory / MODEL).resolve().iterdir():
                _linked(file, place / file.name)
        except FileNotFoundError:
            shutil.rmtree(place)
            if attempt == 4:
                raise
        else:
            return


def _linked(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copy2(file, target)


def _stat(directory: Path) -> tuple[int, ...]:
    about = (directory / MODEL / "vulnerability.db").stat()
    return about.st_ino, about.st_size, about.st_mtime_ns
