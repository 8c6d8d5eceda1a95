"""Pins the current database for a run that must not see another database before it ends."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.vulndb.current import (
    MODEL,
    has_distribution,
    make_bare_environment,
    make_grype_environment,
    make_unusable_error,
    read_database,
    read_publications,
)
from supply_chain.errors import ToolFailed
from supply_chain.scratch import make_scratch_directory
from supply_chain.vulnerability.findings import Database, Distribution

VALID_TIMEOUT = 300.0


@dataclass(frozen=True)
class PinnedDatabase:
    """A private copy of a database: hard links to the same files, which a newer database does not change.

    Grype verified the content when the database was pinned. The content is not verified again for each scan. Instead,
    the file's metadata is compared before and after each scan: `database` raises `DatabaseUnusable` if the file
    changed.
    """

    directory: Path
    facts: Database
    stat: tuple[int, ...]
    _has_data: dict[Distribution, bool] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Environment of grype for a scan with this database."""
        return {**make_grype_environment(self.directory), "GRYPE_DB_VALIDATE_BY_HASH_ON_START": "false"}

    def database(self) -> Database:
        """Return the database; raise `DatabaseUnusable` if its file changed since it was pinned."""
        if _stat(self.directory) != self.stat:
            raise make_unusable_error(self.directory, "its file was changed while scans used it")
        return self.facts

    def knows(self, distribution: Distribution) -> bool:
        """Return whether the database has data about a distribution; each distribution is looked up once."""
        if distribution not in self._has_data:
            self._has_data[distribution] = has_distribution(self.directory, distribution)
        return self._has_data[distribution]

    def publications(self, names: Iterable[str]) -> dict[str, datetime]:
        """Return when vulnerabilities were first published, as `read_publications`."""
        return read_publications(self.directory, names)


@contextlib.contextmanager
def pin_database(grype: Tool, directory: Path) -> Iterator[PinnedDatabase]:
    """Yield a private copy of the database in use in `directory`; raise `DatabaseUnusable` if there is none."""
    read_database(directory)  # raises an error with the reason if it is unusable
    with make_scratch_directory("pinned", directory) as place:
        _link_files(directory, place / MODEL)
        tool = grype.with_environment(**make_bare_environment(place))
        try:
            tool.run("db", "status", timeout=VALID_TIMEOUT, quiet=True)
        except ToolFailed as error:
            raise make_unusable_error(directory, str(error)) from error
        yield PinnedDatabase(place, read_database(place).facts, _stat(place))


def _link_files(directory: Path, place: Path) -> None:
    """Link the files of the current database; start again if it was replaced and removed meanwhile."""
    for attempt in range(5):
        place.mkdir()
        try:
            for file in (directory / MODEL).resolve().iterdir():
                _link_or_copy(file, place / file.name)
        except FileNotFoundError:
            shutil.rmtree(place)
            if attempt == 4:
                raise
        else:
            return


def _link_or_copy(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copy2(file, target)


def _stat(directory: Path) -> tuple[int, ...]:
    about = (directory / MODEL / "vulnerability.db").stat()
    return about.st_ino, about.st_size, about.st_mtime_ns
