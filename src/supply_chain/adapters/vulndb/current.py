"""The vulnerability database that is in use: which one it is, of when its facts are, and what it knows.

Which of the two there are it is, the official or the starter database, is said by `Database`; nothing else
decides it.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from supply_chain.errors import DatabaseUnusable
from supply_chain.model.image import Frozen
from supply_chain.vulnerability import findings
from supply_chain.vulnerability.findings import Distribution

Kind = Literal["official", "starter"]

MAX_AGE = "120h"
"""How old the official database may be; the starter database is old by nature, and each verdict tells its age."""

MODEL = "6"
"""Where grype keeps a database of its schema, below its directory."""
RECORD = "cscm.json"


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

    @property
    def facts(self) -> findings.Database:
        """What a report says of it."""
        return findings.Database(kind=self.kind, built=self.built, digest=self.digest)


class Record(Frozen):
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
    environment = bare_environment(directory)
    if kind_of(directory) == "official":
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
            kind=kind_of(directory),
            built=_moment(built),
            digest=digest,
            directory=directory,
            sources={name: _moment(date) for name, date in sources.items() if date},
        )
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise unusable(directory, str(error)) from error


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
        raise unusable(directory, str(error)) from error
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
    file = directory / MODEL / "vulnerability.db"
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        yield db


def bare_environment(directory: Path) -> dict[str, str]:
    return {
        "GRYPE_DB_CACHE_DIR": str(directory),
        "GRYPE_DB_AUTO_UPDATE": "false",
        "GRYPE_DB_VALIDATE_BY_HASH_ON_START": "true",
        "GRYPE_DB_VALIDATE_AGE": "false",
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    }


def _imported(directory: Path) -> dict[str, str]:
    """What grype wrote about the database it took."""
    file = directory / MODEL / "import.json"
    try:
        found: dict[str, str] = json.loads(file.read_bytes())
        known = found["digest"].startswith("xxh64:")
    except FileNotFoundError as error:
        raise unusable(directory, "there is none") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unusable(directory, f"{file.name}: {error}") from error
    if not known:
        raise unusable(directory, "its digest is not one of grype's")
    return found


def digest_of(directory: Path) -> str:
    return _imported(directory)["digest"]


def digest_or_none(directory: Path) -> str | None:
    try:
        return digest_of(directory)
    except DatabaseUnusable:
        return None


def record_of(directory: Path) -> Record | None:
    """Our record, as long as it is about the database that is there."""
    try:
        record = Record.model_validate_json((directory / MODEL / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None
    return record if record.digest == digest_or_none(directory) else None


def kind_of(directory: Path) -> Kind:
    """Which database it is; one that grype downloaded by itself is official, any other is unknown."""
    if record := record_of(directory):
        return record.kind
    if _imported(directory).get("source", "").startswith("https://"):
        return "official"
    raise unusable(directory, "nobody knows where it came from")


def kind_or_none(directory: Path) -> Kind | None:
    try:
        return kind_of(directory)
    except DatabaseUnusable:
        return None


def unusable(directory: Path, why: str) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"The vulnerability database in {directory} cannot be used: {why}\nRun `cscm up`; it makes a whole one."
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
