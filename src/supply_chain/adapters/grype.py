"""grype: matches a stored SBOM against the vulnerability database, offline."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from supply_chain.adapters.command import Tool
from supply_chain.errors import DatabaseUnusable, ScannerFailed
from supply_chain.evidence.sbom import SYSTEM
from supply_chain.image import Digest
from supply_chain.scratch import scratch
from supply_chain.vulnerability.findings import Database, Distribution, Report, parse_report, united
from supply_chain.vulnerability.scanner import Sbom

T = TypeVar("T")

TIMEOUT = 600.0
OVERLAP = "ownership-by-file-overlap"
"""syft's relation of a package to one whose files it says it owns."""
DISTRO = b'"distro":'
ESCAPE = b"\\u"
"""What JSON writes a character with in another way than as itself."""
RELEASE = 64 * 1024
"""Bytes in which what an SBOM says of the distribution ends; where it does not, all of it is read."""
MATCHED = ("--output", "json")
"""What is asked of grype, beside the inventory and an empty configuration."""
CLAIMED_TOO = "languages' packages by themselves, where another claims their files"
DATABASE_WORDS = ("database does not exist", "was built", "checksum", "not a database", "malformed",
                  "no import metadata", "not a v6 database", "failed to load vulnerability db")  # fmt: skip


class _Release(BaseModel):
    """What an SBOM of syft's says of the distribution."""

    versionCodename: str | None = None  # noqa: N815 - syft's name


class _Document(BaseModel):
    """As much of an SBOM as has to be known before it is matched; the rest is not made into objects."""

    distro: _Release | None = None


@dataclass(frozen=True)
class Grype:
    """`database` says which database lies where `environment` points grype to, read anew for every scan.

    `knows` says whether that database holds anything about a distribution: where it does not, grype finds
    nothing in its packages and does not tell. `cost` is more of grype's environment, which changes what a scan
    costs and nothing of what it finds. `quiet`: what it says is not in the run's log.
    """

    tool: Tool
    environment: Mapping[str, str]
    database: Callable[[], Database]
    knows: Callable[[Distribution], bool]
    now: Callable[[], datetime]
    cost: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False

    def current(self) -> tuple[str, Database]:
        """The scanner's version, and the database a scan would use now."""
        return self.tool.version, self.database()

    @cached_property
    def configuration(self) -> str:
        """Names how grype is called."""
        return f"sha256:{hashlib.sha256(json.dumps([*MATCHED, CLAIMED_TOO]).encode()).hexdigest()}"

    def scan(self, sbom: Sbom) -> Report:
        """A whole report; `ScannerFailed` or `DatabaseUnusable` otherwise.

        grype passes over a language's package whose files a package of the distribution says it owns. Any
        image can say so: where one does, the languages' packages are matched once more by themselves.
        """
        before, digest = self.database(), sbom.digest
        codename = _codename(sbom)
        report = self._matched(sbom, digest, before)
        without_system = _claimed(sbom)
        if without_system is not None:
            report = united(report, self._matched(without_system, digest, before))
        found = (report.distribution or Distribution(name="")).model_copy(update={"codename": codename})
        distribution = found.model_copy(update={"known": bool(found.name) and self.knows(found)})
        if self.database() != before:
            raise DatabaseUnusable(
                "The vulnerability database was replaced while the scan ran.\nScan again; it will use the new one."
            )
        return report.model_copy(update={"distribution": distribution, "configuration": self.configuration})

    def _matched(self, sbom: Sbom, digest: Digest, database: Database) -> Report:
        with scratch("grype") as work:
            inventory, report, settings = (work / each for each in ("sbom.json", "report.json", "none.yaml"))
            settings.touch()  # what lies in the working directory or at home must not silence a finding
            inventory.write_bytes(sbom.content)
            done = self.tool.with_environment(**self.environment, **self.cost).run(
                f"sbom:{inventory}",
                "--config",
                settings,
                *MATCHED,
                timeout=TIMEOUT,
                stdout_to=report,
                check=False,
                cwd=work,
                quiet=self.quiet,
            )
            text = report.read_text(errors="replace")
        if done.status != 0:
            raise self._failed(done.status, done.stderr)
        return parse_report(text, database=database, packages=sbom.packages, sbom=digest, scanned=self.now())

    def _failed(self, status: int, stderr: str) -> ScannerFailed | DatabaseUnusable:
        said = stderr[-2000:].strip()
        if any(word in said for word in DATABASE_WORDS):
            return DatabaseUnusable(
                f"grype cannot use its database: {said}\nRun `cscm up`; it makes a database that fits, and keeps it."
            )
        return ScannerFailed(
            f"{self.tool.name} ended with status {status} without a report: {said}\n"
            "Look at its message; then scan again."
        )


def _codename(sbom: Sbom) -> str:
    """The name of the release, by which grype looks a distribution up too.

    Where the document has one key of that name, as syft writes it, the rest of it need not be read. In a text a
    quotation mark has a backslash before it, so that no text passes for the key.
    """
    try:
        if sbom.content.count(DISTRO) == 1 and ESCAPE not in sbom.content:
            start = sbom.content.index(DISTRO) + len(DISTRO)
            text = sbom.content[start : start + RELEASE].decode(errors="replace")
            with contextlib.suppress(ValueError):
                return _named(_Document(distro=json.JSONDecoder().raw_decode(text)[0]))
        return _named(_Document.model_validate_json(sbom.content))
    except ValidationError as error:
        raise _unreadable(error.errors()[0]["msg"]) from error


def _named(document: _Document) -> str:
    return (document.distro and document.distro.versionCodename) or ""


def _claimed(sbom: Sbom) -> Sbom | None:
    """The SBOM without the distribution's packages, if one of them claims files of another package.

    Where a language's package claims them, both are still there without the distribution's, and nothing more would
    be found. Whatever says so holds the relation's name: what does not is not read for it. syft writes it as it is, and
    JSON that could write it in another way has a backslash before a u.
    """
    if OVERLAP.encode() not in sbom.content and ESCAPE not in sbom.content:
        return None

    def without_system(data: dict[str, Any]) -> Sbom | None:
        others = {each.get("id") for each in data["artifacts"] if each["type"] not in SYSTEM} - {None}
        claims = (each for each in data.get("artifactRelationships") or () if each["type"] == OVERLAP)
        if all(each.get("parent") in others for each in claims):
            return None
        data["artifacts"] = [each for each in data["artifacts"] if each["type"] not in SYSTEM]
        return Sbom(json.dumps(data).encode(), sbom.packages, sbom.tool)

    return _read(sbom, without_system)


def _read(sbom: Sbom, read: Callable[[dict[str, Any]], T]) -> T:
    """What `read` makes of the SBOM's document; `ScannerFailed` where it is none of syft's."""
    try:
        return read(json.loads(sbom.content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(str(error)) from error


def _unreadable(why: str) -> ScannerFailed:
    return ScannerFailed(f"The SBOM to be matched cannot be read: {why}\nMake it again: run the step with --fresh.")
