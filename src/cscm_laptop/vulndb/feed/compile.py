"""Compiles the feed into a database for `grype db import` (grype's model 6, `grype/db/v6/models.go`)."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from importlib import resources
from pathlib import Path
from typing import Any

from cscm_laptop.vulndb.feed import versions
from cscm_laptop.vulndb.feed.model import Feed, GoPackage, Record

MODEL = (6, 1, 10)
"""Version of grype's database model that is written."""

PROVIDERS = {"go": "govulndb", "python": "pypa", "debian": "debian", "exploited": "kev"}
"""Grype's name for each source, used in its reports."""

PAGES = {
    "go": "https://pkg.go.dev/vuln/{}",
    "python": "https://osv.dev/vulnerability/{}",
    "debian": "https://security-tracker.debian.org/tracker/{}",
}
"""Address of a page with more information about an advisory."""


def compile_feed(feed: Feed, path: Path, digest: str) -> None:
    """Write the database to `path`, which must not exist.

    Equal feeds give equal rows. They give equal bytes only with the same SQLite library, because its versions leave
    different data in the unused space of a page.

    `digest` is the digest of the feed; it is recorded for each source.
    """
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;")
        connection.executescript(_resource("schema.sql"))
        connection.execute("BEGIN")
        _Writer(connection).write(feed, digest)
        connection.execute("COMMIT")
        connection.execute("VACUUM")


class _Writer:
    """Assigns ids and writes rows; equal content is written once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._numbers: dict[tuple[str, ...], int] = {}

    def write(self, feed: Feed, digest: str) -> None:
        for table, rows in json.loads(_resource("seeds.json")).items():
            for row in rows:
                self._add(table, *row)
        self._add("db_metadata", _time(feed.built), *MODEL)
        for source, provider in PROVIDERS.items():
            self._add("providers", provider, "1", "cscm", _time(feed.sources[source].as_of), f"sha256:{digest}")
        self._write_go(feed)
        self._write_python(feed)
        self._write_debian(feed)
        self._write_exploited(feed)

    def _write_go(self, feed: Feed) -> None:
        for record in feed.go:
            number = self._vulnerability("go", record)
            for package in record.packages:
                body: dict[str, Any] = {"cves": record.aliases} if record.aliases else {}
                if package.imports:
                    body["qualifiers"] = {"go_imports": _imports(package)}
                if ranges := versions.list_go_ranges(package, record.published):
                    body["ranges"] = ranges
                self._affected(number, "go-module", package.name, body)

    def _write_python(self, feed: Feed) -> None:
        """Write one row per window: in a single row, each window's fix would be offered for any version."""
        for record in feed.python:
            number = self._vulnerability("python", record)
            for package in record.packages:
                for window in package.windows:
                    body: dict[str, Any] = {"cves": record.aliases} if record.aliases else {}
                    body["ranges"] = [versions.make_python_range(window)]
                    self._affected(number, "python", re.sub(r"[-_.]+", "-", package.name), body)

    def _write_debian(self, feed: Feed) -> None:
        numbers: dict[str, int] = {}
        for release in feed.debian:
            system = self._add(
                "operating_systems", None, "debian", "debian", release.version, "", "", release.codename, "", None, None
            )
            for source, fixes in release.fixes.items():
                for cve, fixed in fixes.items():
                    if cve not in numbers:
                        record = Record(id=cve, cvss=feed.debian_cvss.get(cve))
                        numbers[cve] = self._vulnerability("debian", record)
                    body = {"ranges": [versions.make_debian_range(fixed)]}
                    self._affected(numbers[cve], "deb", source, body, system)

    def _write_exploited(self, feed: Feed) -> None:
        for one in feed.exploited:
            body: dict[str, Any] = {
                "cve": one.cve,
                "vendor_project": one.vendor,
                "product": one.product,
                "date_added": f"{one.added.isoformat()}T00:00:00Z",
                "due_date": f"{one.due.isoformat()}T00:00:00Z",
                "known_ransomware_campaign_use": one.ransomware,
            }
            if one.cwes:
                body["cwes"] = one.cwes
            self._add("known_exploited_vulnerability_handles", None, one.cve, self._blob(body))

    def _vulnerability(self, source: str, record: Record) -> int:
        body: dict[str, Any] = {"id": record.id, "refs": [{"url": PAGES[source].format(record.id)}]}
        if record.aliases:
            body["aliases"] = record.aliases
        if record.cvss:
            vector = {"vector": record.cvss, "version": record.cvss[5:8]}
            body["severities"] = [{"scheme": "CVSS", "value": vector, "rank": 2 if source == "debian" else 0}]
        for alias in dict.fromkeys(record.aliases):
            if alias != record.id:
                self._add("vulnerability_aliases", record.id, alias)
        published, modified = _time(record.published), _time(record.modified or record.published)
        return self._add(
            "vulnerability_handles",
            *(None, record.id, "active", published, modified, None, PROVIDERS[source], self._blob(body)),
        )

    def _affected(
        self, vulnerability: int, ecosystem: str, name: str, body: Mapping[str, Any], system: int | None = None
    ) -> None:
        package = self._once(("package", ecosystem, name.lower()), "packages", ecosystem, name)
        self._add("affected_package_handles", None, vulnerability, system, package, self._blob(body))

    def _blob(self, body: Mapping[str, Any]) -> int:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False) + "\n"
        return self._once(("blob", text), "blobs", text)

    def _once(self, key: tuple[str, ...], table: str, *values: object) -> int:
        if key not in self._numbers:
            self._numbers[key] = self._add(table, None, *values)
        return self._numbers[key]

    def _add(self, table: str, *values: object) -> int:
        marks = ",".join("?" * len(values))
        statement = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608 # nosec B608 - our own names
        row = self._connection.execute(statement, values)
        return row.lastrowid or 0


def _imports(package: GoPackage) -> Iterable[dict[str, Any]]:
    return [
        {"path": path, "symbols": symbols} if symbols else {"path": path} for path, symbols in package.imports.items()
    ]


def _time(value: date | None) -> str | None:
    """Return a time in the format of grype's database; a date is its midnight in UTC."""
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S+00:00")


def _resource(name: str) -> str:
    return (resources.files("cscm_laptop.vulndb.feed") / name).read_text(encoding="utf-8")
