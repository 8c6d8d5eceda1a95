"""Reads the vulnerability database in use: its kind, its date, and the distributions that it covers.

`Database.kind` says whether it is the official or the starter database; nothing else decides that.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from supply_chain.errors import DatabaseUnusable
from supply_chain.model.image import Model
from supply_chain.vulnerability import findings
from supply_chain.vulnerability.findings import Distribution

Kind = Literal["official", "starter"]

MAX_AGE = "120h"
"""Maximum age of the official database. The starter database is always old, and each verdict shows its age."""

MODEL = "6"
"""Directory, below grype's, of a database in grype's schema version 6."""
RECORD = "cscm.json"


class Database(Model):
    """A vulnerability database that gates can use.

    `built` is the time at which its facts were current: for the starter database, the date of its oldest source.
    `sources` says how current each source is. `digest` is `xxh64:…`, as grype computes it.
    """

    kind: Kind
    built: datetime
    digest: str
    directory: Path
    sources: dict[str, datetime] = Field(default_factory=dict)

    @property
    def facts(self) -> findings.Database:
        """The database as a report describes it."""
        return findings.Database(kind=self.kind, built=self.built, digest=self.digest)


class Record(Model):
    """The project's record of how a database was made, stored with the database."""

    kind: Kind
    digest: str
    feed: str | None = None
    grype: str


def make_grype_environment(directory: Path) -> dict[str, str]:
    """Return the environment in which grype uses only the database in `directory`.

    A damaged database is always an error. An old one is an error only if it is official: the starter database is always
    old, and its `built` shows that.
    """
    environment = make_bare_environment(directory)
    if read_kind(directory) == "official":
        environment |= {"GRYPE_DB_VALIDATE_AGE": "true", "GRYPE_DB_MAX_ALLOWED_BUILT_AGE": MAX_AGE}
    return environment


def read_database(directory: Path) -> Database:
    """Return the database in use; raise `DatabaseUnusable` if its files do not describe one.

    This reads only the database's metadata. Grype verifies the content at each start.
    """
    digest = _read_import(directory)["digest"]
    try:
        with _open_database(directory) as db:
            (built,) = db.execute("SELECT build_timestamp FROM db_metadata").fetchone()
            sources = dict(db.execute("SELECT id, date_captured FROM providers ORDER BY id").fetchall())
        return Database(
            kind=read_kind(directory),
            built=_moment(built),
            digest=digest,
            directory=directory,
            sources={name: _moment(date) for name, date in sources.items() if date},
        )
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise make_unusable_error(directory, str(error)) from error


def has_distribution(directory: Path, distribution: Distribution) -> bool:
    """Return whether the database has data about this version of a distribution; raise `DatabaseUnusable`.

    The lookup is grype's (`grype/db/v6/operating_system_store.go`): by the distribution's name or its replacement, by
    the release's codename if the image names one, and by the version. A version is required unless the distribution is
    a rolling one. Where grype has further ways to find a distribution, the answer is no.
    """
    version = re.fullmatch(r"(\d+)(?:\.(\d+))?(?:\.[\w.~-]*)?", distribution.version, re.ASCII)
    try:
        with _open_database(directory) as db:
            name, rolling = db.execute(_STANDS_FOR, (distribution.name,)).fetchone() or (None, False)
            if not version and not rolling:
                return False
            major, minor = (_number(each or "") for each in version.groups()) if version and not rolling else ("", "")
            parameters = {"name": name or distribution.name, "release": distribution.codename, "major": major}
            rows = [
                db.execute(_HELD, {**parameters, "channel": each}).fetchall() for each in distribution.channels or ("",)
            ]
    except sqlite3.Error as error:
        raise make_unusable_error(directory, str(error)) from error
    return all(_has_rows(matches, minor) for matches in rows)


def read_publications(directory: Path, names: Iterable[str]) -> dict[str, datetime]:
    """Return vulnerability → when a source first published it, of those for which a source gives the date.

    Raises `DatabaseUnusable`.
    """
    try:
        with _open_database(directory) as db:
            rows = db.execute(_PUBLISHED, (json.dumps(sorted(names)),)).fetchall()
        return {name: _moment(date) for name, date in rows}
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise make_unusable_error(directory, str(error)) from error


_PUBLISHED = """
SELECT wanted.value, min(published_date)
FROM json_each(?) AS wanted JOIN vulnerability_handles ON name = wanted.value COLLATE NOCASE
WHERE published_date > '1980-01-01' GROUP BY wanted.value
"""
"""Sources without a date have none or Go's zero time, which is in the year 1."""
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
"""The minor versions of a distribution's major version, and whether the database has data about each."""


def _number(digits: str) -> str:
    """Return a number without leading zeros, as grype writes it."""
    return str(int(digits)) if digits else ""


def _has_rows(rows: Sequence[tuple[str, bool]], minor: str) -> bool:
    """Return whether the database has data about what grype selects.

    Grype selects the rows of this minor version; if there are none, those without a minor version; else all rows.
    """
    for fitting in ([minor], [""], {release for release, _ in rows}):
        if chosen := [has_data for release, has_data in rows if release in fitting]:
            return any(chosen)
    return False


@contextlib.contextmanager
def _open_database(directory: Path) -> Iterator[sqlite3.Connection]:
    file = directory / MODEL / "vulnerability.db"
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        yield db


def make_bare_environment(directory: Path) -> dict[str, str]:
    """Return the environment in which grype uses the database in `directory`, whatever its age, without updates."""
    return {
        "GRYPE_DB_CACHE_DIR": str(directory),
        "GRYPE_DB_AUTO_UPDATE": "false",
        "GRYPE_DB_VALIDATE_BY_HASH_ON_START": "true",
        "GRYPE_DB_VALIDATE_AGE": "false",
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    }


def _read_import(directory: Path) -> dict[str, str]:
    """Return grype's own record of the imported database; raise `DatabaseUnusable` if it cannot be read."""
    file = directory / MODEL / "import.json"
    try:
        record: dict[str, str] = json.loads(file.read_bytes())
        valid = record["digest"].startswith("xxh64:")
    except FileNotFoundError as error:
        raise make_unusable_error(directory, "there is none") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise make_unusable_error(directory, f"{file.name}: {error}") from error
    if not valid:
        raise make_unusable_error(directory, "its digest is not one of grype's")
    return record


def read_digest(directory: Path) -> str:
    """Return the digest of the database, as grype recorded it; raise `DatabaseUnusable` if there is none."""
    return _read_import(directory)["digest"]


def digest_or_none(directory: Path) -> str | None:
    """Return the digest of the database, or None if it is unusable."""
    try:
        return read_digest(directory)
    except DatabaseUnusable:
        return None


def read_record(directory: Path) -> Record | None:
    """Return the project's record, if it is about the database that is there; else None."""
    try:
        record = Record.model_validate_json((directory / MODEL / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None
    return record if record.digest == digest_or_none(directory) else None


def read_kind(directory: Path) -> Kind:
    """Return the kind of the database; one that grype downloaded by itself is official.

    Raises `DatabaseUnusable` if the origin is unknown.
    """
    if record := read_record(directory):
        return record.kind
    if _read_import(directory).get("source", "").startswith("https://"):
        return "official"
    raise make_unusable_error(directory, "its origin is unknown")


def find_database_kind(directory: Path) -> Kind | None:
    """Return the kind of the database, or None if it is unusable."""
    try:
        return read_kind(directory)
    except DatabaseUnusable:
        return None


def make_unusable_error(directory: Path, why: str) -> DatabaseUnusable:
    """Return the error for a database that cannot be used."""
    return DatabaseUnusable(
        f"The vulnerability database in {directory} cannot be used: {why}\nRun `cscm up`; it makes a complete one."
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
