"""The vulnerability database: the official one where the network allows, else the starter database.

The starter database is compiled here from the feed that ships with the project. Which of the two is
in use, and of when its facts are, is said by `Database`; nothing else decides it.

A database is prepared in a directory of its own and then takes its place by one rename of a link,
so that whoever reads sees a whole database at any moment, the old one or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from supply_chain.adapters.command import Tool
from supply_chain.errors import DatabaseUnusable, SupplyChainError, ToolFailed, ToolTimedOut
from supply_chain.image import Frozen
from supply_chain.laptop.feed.compile import compile_feed
from supply_chain.laptop.feed.model import read_feed
from supply_chain.vulnerability.findings import Distribution

Kind = Literal["official", "starter"]
Progress = Callable[[str], None]

FEED = Path(__file__).with_name("feed") / "facts.json.xz"
"""The feed that ships with the project."""

MAX_AGE = "120h"
"""How old the official database may be; the starter database's age is for policy to judge."""

CHECK_TIMEOUT = "8s"
DOWNLOAD_TIMEOUT = 900.0
IMPORT_TIMEOUT = 120.0

_MODEL = "6"
_RECORD = "cscm.json"


class Database(Frozen):
    """A vulnerability database that can be judged with.

    `built` is when its facts were current: for the starter database the date of its oldest source.
    `sources` says how current each source is. `digest` is `xxh64:…`, as grype computes it.
    """

    kind: Kind
    built: datetime
    digest: str
    directory: Path
    sources: dict[str, datetime] = Field(default_factory=dict)


class _Record(Frozen):
    """What is kept beside the database about its making."""

    kind: Kind
    digest: str
    feed: str | None = None
    grype: str


def grype_environment(directory: Path) -> dict[str, str]:
    """The environment in which grype uses the database in `directory`, and nothing else.

    Damage is always an error. Age is one for the official database only: the starter database is old
    by nature and says so in `built`.
    """
    environment = _environment(directory)
    if _kind(directory) == "official":
        environment |= {"GRYPE_DB_VALIDATE_AGE": "true", "GRYPE_DB_MAX_ALLOWED_BUILT_AGE": MAX_AGE}
    return environment


def read_database(directory: Path) -> Database:
    """The database in use; raises `DatabaseUnusable` when there is none that can be told from its files.

    It reads what the database says of itself; that its content is whole is checked by grype at each start.
    """
    digest = _imported(directory)["digest"]
    try:
        with _opened(directory) as db:
            (built,) = db.execute("SELECT build_timestamp FROM db_metadata").fetchone()
            sources = dict(db.execute("SELECT id, date_captured FROM providers ORDER BY id").fetchall())
        return Database(
            kind=_kind(directory),
            built=_moment(built),
            digest=digest,
            directory=directory,
            sources={name: _moment(date) for name, date in sources.items() if date},
        )
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise _unusable(directory, str(error)) from error


def knows(directory: Path, distribution: Distribution) -> bool:
    """Whether the database holds anything about this version of a distribution; `DatabaseUnusable`.

    It is looked up as grype does (`grype/db/v6/operating_system_store.go`): by its name or the one that this
    stands for, by the name of its release where the image tells one, and by its version, of which it has to
    have one unless it has none by nature. Where grype knows more ways to find it, the answer is no.
    """
    version = re.fullmatch(r"(\d+)(?:\.(\d+))?(?:\.[\w.~-]*)?", distribution.version, re.ASCII)
    try:
        with _opened(directory) as db:
            name, rolling = db.execute(_STANDS_FOR, (distribution.name,)).fetchone() or (None, False)
            if not version and not rolling:
                return False
            major, minor = (_number(each or "") for each in version.groups()) if version and not rolling else ("", "")
            asked = {"name": name or distribution.name, "release": distribution.codename, "major": major}
            rows = [db.execute(_HELD, {**asked, "channel": each}).fetchall() for each in distribution.channels or ("",)]
    except sqlite3.Error as error:
        raise _unusable(directory, str(error)) from error
    return all(_holds(found, minor) for found in rows)


_STANDS_FOR = """
SELECT replacement, rolling FROM operating_system_specifier_overrides
WHERE alias = ? COLLATE NOCASE AND coalesce(version, '') || coalesce(version_pattern, '') || coalesce(codename, '') = ''
"""
_HELD = """
SELECT coalesce(minor_version, ''), id IN (SELECT operating_system_id FROM affected_package_handles)
FROM operating_systems AS os
WHERE :name COLLATE NOCASE IN (name, release_id)
  AND (:release = '' OR :release COLLATE NOCASE IN (codename, label_version))
  AND (:major = '' OR major_version = :major)
  AND coalesce(channel, '') = :channel COLLATE NOCASE
  AND NOT EXISTS (SELECT * FROM operating_system_specifier_overrides
                  WHERE alias = os.name COLLATE NOCASE AND codename = :release AND codename <> '')
"""
"""Versions of a distribution below a major one, and whether anything is known about them."""


def _number(digits: str) -> str:
    """As grype writes it: without leading zeros."""
    return str(int(digits)) if digits else ""


def _holds(rows: Sequence[tuple[str, bool]], minor: str) -> bool:
    """Whether the database knows what grype takes of these: that very version, else one without, else all."""
    for fitting in ([minor], [""], {found for found, _ in rows}):
        if chosen := [known for found, known in rows if found in fitting]:
            return any(chosen)
    return False


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[sqlite3.Connection]:
    file = directory / _MODEL / "vulnerability.db"
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        yield db


def ensure_database(
    grype: Tool,
    directory: Path,
    feed: Path = FEED,
    progress: Progress = lambda line: None,
    *,
    starter_only: bool = False,
) -> Database:
    """Update the official database, or compile the starter database when the network does not allow it.

    An official database that is there but cannot be updated is kept. Run again, it does only what is
    needed. Raises `DatabaseUnusable` when the feed cannot be compiled or grype cannot read the result.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        _tidy(directory)
        if not starter_only and _update(grype, directory, progress):
            return read_database(directory)
        if not starter_only and _kind_or_none(directory) == "official" and _valid(grype, directory):
            progress("the official vulnerability database could not be updated; the one that is there stays")
            return read_database(directory)
        return _starter(grype, directory, feed, progress)


def _update(grype: Tool, directory: Path, progress: Progress) -> bool:
    """Whether the official database is there in its newest state."""
    progress("asking for the official vulnerability database")
    with _stage(directory) as stage:
        if _kind_or_none(directory) == "official":
            _link_files(directory / _MODEL, stage / _MODEL)
        before = _digest_or_none(stage)
        tool = grype.with_environment(
            **_environment(stage), GRYPE_DB_UPDATE_AVAILABLE_TIMEOUT=CHECK_TIMEOUT, GRYPE_DB_REQUIRE_UPDATE_CHECK="true"
        )
        try:
            tool.run("db", "update", timeout=DOWNLOAD_TIMEOUT, quiet=True)
            tool.run("db", "status", timeout=IMPORT_TIMEOUT, quiet=True)
        except (ToolFailed, ToolTimedOut) as error:
            progress(f"no official vulnerability database: {_reason(error)}")
            return False
        if before and _digest_or_none(stage) == before:
            return True
        _activate(directory, stage, _Record(kind="official", digest=_digest(stage), grype=grype.version))
    return True


def _reason(error: SupplyChainError) -> str:
    """The last thing that grype said, without colours, time and level."""
    said = re.sub(r"\x1b\[\d*m", "", str(error.args[0])).rpartition("\n")[0].splitlines()
    return re.sub(r"^\[\d+\]\s+[A-Z]+\s+", "", said[-1])[:300]


def _starter(grype: Tool, directory: Path, feed: Path, progress: Progress) -> Database:
    content = hashlib.sha256(feed.read_bytes()).hexdigest()
    if _is_starter(directory, content, grype) and _valid(grype, directory):
        return read_database(directory)
    progress("compiling the starter vulnerability database from the project's feed")
    with _stage(directory) as stage:
        compile_feed(read_feed(feed), stage / "starter.db", content)
        tool = grype.with_environment(**_environment(stage))
        try:
            tool.run("db", "import", stage / "starter.db", timeout=IMPORT_TIMEOUT, quiet=True)
            tool.run("db", "status", timeout=IMPORT_TIMEOUT, quiet=True)
        except ToolFailed as error:
            raise _unusable(directory, str(error)) from error
        record = _Record(kind="starter", digest=_digest(stage), feed=content, grype=grype.version)
        _activate(directory, stage, record)
    database = read_database(directory)
    progress(f"the starter vulnerability database is in use; its facts are of {database.built:%Y-%m-%d} or later")
    return database


def _environment(directory: Path) -> dict[str, str]:
    return {
        "GRYPE_DB_CACHE_DIR": str(directory),
        "GRYPE_DB_AUTO_UPDATE": "false",
        "GRYPE_DB_VALIDATE_BY_HASH_ON_START": "true",
        "GRYPE_DB_VALIDATE_AGE": "false",
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    }


def _valid(grype: Tool, directory: Path) -> bool:
    done = grype.with_environment(**_environment(directory)).run(
        "db", "status", timeout=IMPORT_TIMEOUT, check=False, quiet=True
    )
    return done.status == 0


def _is_starter(directory: Path, content: str, grype: Tool) -> bool:
    record = _record(directory)
    return record is not None and (record.kind, record.feed, record.grype) == ("starter", content, grype.version)


# --- what lies in the directory ---


def _imported(directory: Path) -> dict[str, str]:
    """What grype wrote about the database it took."""
    file = directory / _MODEL / "import.json"
    try:
        found: dict[str, str] = json.loads(file.read_bytes())
        known = found["digest"].startswith("xxh64:")
    except FileNotFoundError as error:
        raise _unusable(directory, "there is none") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(directory, f"{file.name}: {error}") from error
    if not known:
        raise _unusable(directory, "its digest is not one of grype's")
    return found


def _digest(directory: Path) -> str:
    return _imported(directory)["digest"]


def _digest_or_none(directory: Path) -> str | None:
    try:
        return _digest(directory)
    except DatabaseUnusable:
        return None


def _record(directory: Path) -> _Record | None:
    """Our record, as long as it is about the database that is there."""
    try:
        record = _Record.model_validate_json((directory / _MODEL / _RECORD).read_bytes())
    except (OSError, ValidationError):
        return None
    return record if record.digest == _digest_or_none(directory) else None


def _kind(directory: Path) -> Kind:
    """Which database it is; one that grype downloaded by itself is official, any other is unknown."""
    if record := _record(directory):
        return record.kind
    if _imported(directory).get("source", "").startswith("https://"):
        return "official"
    raise _unusable(directory, "nobody knows where it came from")


def _kind_or_none(directory: Path) -> Kind | None:
    try:
        return _kind(directory)
    except DatabaseUnusable:
        return None


def _unusable(directory: Path, why: str) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"The vulnerability database in {directory} cannot be used: {why}\nRun `cscm up`; it makes a whole one."
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# --- one rename puts a database in its place ---


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _stage(directory: Path) -> Iterator[Path]:
    """A directory to prepare a database in; it is removed unless the database was activated."""
    stage = Path(tempfile.mkdtemp(prefix="database-", dir=directory))
    try:
        yield stage
    finally:
        if _current(directory) != stage:
            shutil.rmtree(stage)


def _link_files(source: Path, target: Path) -> None:
    """The same files in another directory; grype replaces files, it does not write into them."""
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).hardlink_to(file)


def _activate(directory: Path, stage: Path, record: _Record) -> None:
    (stage / "starter.db").unlink(missing_ok=True)
    file = stage / _MODEL / _RECORD
    file.unlink(missing_ok=True)
    file.write_text(record.model_dump_json(), encoding="utf-8")
    link, place = directory / ".next", directory / _MODEL
    link.unlink(missing_ok=True)
    link.symlink_to(Path(stage.name) / _MODEL)
    if place.is_dir() and not place.is_symlink():  # grype, run by hand, put its own directory there
        place.rename(Path(tempfile.mkdtemp(prefix="database-", dir=directory)) / _MODEL)
    link.replace(place)


def _current(directory: Path) -> Path | None:
    place = directory / _MODEL
    return directory / place.readlink().parent if place.is_symlink() else None


def _tidy(directory: Path) -> None:
    """Remove what killed runs left and databases that are no longer in use.

    The database before the current one stays until the next time, for a scan may have it open.
    """
    current = _current(directory)
    old = sorted(
        (found for found in directory.glob("database-*") if found != current),
        key=lambda found: found.stat().st_mtime,
    )
    keep = [found for found in old if (found / _MODEL / _RECORD).exists()][-1:]
    for left in [*(found for found in old if found not in keep), *directory.glob("tmp-v6-import*")]:
        shutil.rmtree(left)
