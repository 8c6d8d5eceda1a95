"""Makes a vulnerability database: downloads the official one, or compiles the starter database from the project's feed.

A database is prepared in its own directory and then put in place by the rename of a link. A reader therefore always
sees a complete database, the old one or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cscm_laptop.vulndb.feed.compile import compile_feed
from cscm_laptop.vulndb.feed.model import read_feed
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.vulndb.current import (
    MODEL,
    RECORD,
    Database,
    Record,
    digest_or_none,
    find_database_kind,
    make_bare_environment,
    make_unusable_error,
    read_database,
    read_digest,
    read_record,
)
from supply_chain.errors import SupplyChainError, ToolFailed, ToolTimedOut

Progress = Callable[[str], None]

FEED = Path(__file__).with_name("feed") / "facts.json.xz"
"""The feed that is part of the project."""

CHECK_TIMEOUT = "8s"
DOWNLOAD_TIMEOUT = 900.0
IMPORT_TIMEOUT = 120.0


def ensure_database(
    grype: Tool,
    directory: Path,
    feed: Path = FEED,
    progress: Progress = lambda line: None,
    *,
    starter_only: bool = False,
) -> Database:
    """Update the official database, or compile the starter database if the network does not allow that.

    An existing official database that cannot be updated stays in use. With `starter_only`, the official one is not
    tried. A further call does only what is needed. Raises `DatabaseUnusable` if the feed cannot be compiled or grype
    cannot read the result.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        _remove_leftovers(directory)
        if not starter_only and _update(grype, directory, progress):
            return read_database(directory)
        if not starter_only and find_database_kind(directory) == "official" and _is_valid(grype, directory):
            progress("the official vulnerability database could not be updated; the one that is there stays")
            return read_database(directory)
        return _build_starter(grype, directory, feed, progress)


def _update(grype: Tool, directory: Path, progress: Progress) -> bool:
    """Download the newest official database if it is not there yet; return whether it is there afterwards."""
    progress("asking for the official vulnerability database")
    with _stage(directory) as stage:
        if find_database_kind(directory) == "official":
            _link_files(directory / MODEL, stage / MODEL)
        before = digest_or_none(stage)
        tool = grype.with_environment(
            **make_bare_environment(stage),
            GRYPE_DB_UPDATE_AVAILABLE_TIMEOUT=CHECK_TIMEOUT,
            GRYPE_DB_REQUIRE_UPDATE_CHECK="true",
        )
        try:
            tool.run("db", "update", timeout=DOWNLOAD_TIMEOUT, quiet=True)
            tool.run("db", "status", timeout=IMPORT_TIMEOUT, quiet=True)
        except (ToolFailed, ToolTimedOut) as error:
            progress(f"no official vulnerability database: {_reason(error)}")
            return False
        if before and digest_or_none(stage) == before:
            return True
        _activate(directory, stage, Record(kind="official", digest=read_digest(stage), grype=grype.version))
    return True


def _reason(error: SupplyChainError) -> str:
    """Return the last line of grype's message, without colours, time and level."""
    lines = re.sub(r"\x1b\[\d*m", "", str(error.args[0])).rpartition("\n")[0].splitlines()
    return re.sub(r"^\[\d+\]\s+[A-Z]+\s+", "", lines[-1])[:300]


def _build_starter(grype: Tool, directory: Path, feed: Path, progress: Progress) -> Database:
    content = hashlib.sha256(feed.read_bytes()).hexdigest()
    if _is_starter(directory, content, grype) and _is_valid(grype, directory):
        return read_database(directory)
    progress("compiling the starter vulnerability database from the project's feed")
    with _stage(directory) as stage:
        compile_feed(read_feed(feed), stage / "starter.db", content)
        tool = grype.with_environment(**make_bare_environment(stage))
        try:
            tool.run("db", "import", stage / "starter.db", timeout=IMPORT_TIMEOUT, quiet=True)
            tool.run("db", "status", timeout=IMPORT_TIMEOUT, quiet=True)
        except ToolFailed as error:
            raise make_unusable_error(directory, str(error)) from error
        record = Record(kind="starter", digest=read_digest(stage), feed=content, grype=grype.version)
        _activate(directory, stage, record)
    database = read_database(directory)
    progress(f"the starter vulnerability database is in use; its facts are of {database.built:%Y-%m-%d} or later")
    return database


def _is_valid(grype: Tool, directory: Path) -> bool:
    done = grype.with_environment(**make_bare_environment(directory)).run(
        "db", "status", timeout=IMPORT_TIMEOUT, check=False, quiet=True
    )
    return done.status == 0


def _is_starter(directory: Path, content: str, grype: Tool) -> bool:
    record = read_record(directory)
    return record is not None and (record.kind, record.feed, record.grype) == ("starter", content, grype.version)


# --- one rename puts a database in its place ---


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _stage(directory: Path) -> Iterator[Path]:
    """Yield a directory to prepare a database in; remove it unless the database was activated."""
    stage = Path(tempfile.mkdtemp(prefix="database-", dir=directory))
    try:
        yield stage
    finally:
        if _current(directory) != stage:
            shutil.rmtree(stage)


def _link_files(source: Path, target: Path) -> None:
    """Link a directory's files into a new directory; this is safe because grype replaces files, not their content."""
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).hardlink_to(file)


def _activate(directory: Path, stage: Path, record: Record) -> None:
    (stage / "starter.db").unlink(missing_ok=True)
    file = stage / MODEL / RECORD
    file.unlink(missing_ok=True)
    file.write_text(record.model_dump_json(), encoding="utf-8")
    link, place = directory / ".next", directory / MODEL
    link.unlink(missing_ok=True)
    link.symlink_to(Path(stage.name) / MODEL)
    if place.is_dir() and not place.is_symlink():  # somebody ran grype by hand, which made its own directory there
        place.rename(Path(tempfile.mkdtemp(prefix="database-", dir=directory)) / MODEL)
    link.replace(place)


def _current(directory: Path) -> Path | None:
    place = directory / MODEL
    return directory / place.readlink().parent if place.is_symlink() else None


def _remove_leftovers(directory: Path) -> None:
    """Remove what killed runs left, and databases that are no longer in use.

    The database before the current one stays until the next call, because a scan may have it open.
    """
    current = _current(directory)
    old = sorted(
        (each for each in directory.glob("database-*") if each != current),
        key=lambda each: each.stat().st_mtime,
    )
    keep = [each for each in old if (each / MODEL / RECORD).exists()][-1:]
    for left in [*(each for each in old if each not in keep), *directory.glob("tmp-v6-import*")]:
        shutil.rmtree(left)
