"""grype: matches a stored SBOM against the vulnerability database, offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from supply_chain.adapters.command import Tool
from supply_chain.errors import DatabaseUnusable, ScannerFailed
from supply_chain.evidence.inventory import SYSTEM
from supply_chain.scratch import scratch
from supply_chain.vulnerability.findings import Database, Distribution, Report, parse_report, united
from supply_chain.vulnerability.scanner import Sbom

T = TypeVar("T")

TIMEOUT = 600.0
OVERLAP = "ownership-by-file-overlap"
"""syft's relation of a package to one whose files it says it owns."""
DATABASE_WORDS = ("database does not exist", "was built", "checksum", "not a database", "malformed",
                  "no import metadata", "not a v6 database", "failed to load vulnerability db")  # fmt: skip


@dataclass(frozen=True)
class Grype:
    """`database` says which database lies where `environment` points grype to, read anew for every scan.

    `knows` says whether that database holds anything about a distribution: where it does not, grype finds
    nothing in its packages and does not tell.
    """

    tool: Tool
    environment: Mapping[str, str]
    database: Callable[[], Database]
    knows: Callable[[Distribution], bool]
    now: Callable[[], datetime]

    def current(self) -> tuple[str, Database]:
        """The scanner's version, and the database a scan would use now."""
        return self.tool.version, self.database()

    def scan(self, sbom: Sbom) -> Report:
        """A whole report; `ScannerFailed` or `DatabaseUnusable` otherwise.

        grype passes over a language's package whose files a package of the distribution says it owns. Any
        image can say so: where one does, the languages' packages are matched once more by themselves.
        """
        before = self.database()
        report = self._matched(sbom, before)
        without_system = _claimed(sbom)
        if without_system is not None:
            report = united(report, self._matched(without_system, before))
        distribution = self._distribution(report, sbom)
        if self.database() != before:
            raise DatabaseUnusable(
                "The vulnerability database was replaced while the scan ran.\nScan again; it will use the new one."
            )
        return report.model_copy(update={"sbom": sbom.digest, "distribution": distribution})

    def _distribution(self, report: Report, sbom: Sbom) -> Distribution:
        """What grype took the distribution for, with the name of its release, by which grype looks it up too."""
        codename = _read(sbom, lambda data: str((data.get("distro") or {}).get("versionCodename") or ""))
        found = (report.distribution or Distribution(name="")).model_copy(update={"codename": codename})
        return found.model_copy(update={"known": bool(found.name) and self.knows(found)})

    def _matched(self, sbom: Sbom, database: Database) -> Report:
        with scratch("grype") as work:
            inventory, report, settings = (work / each for each in ("sbom.json", "report.json", "none.yaml"))
            settings.touch()  # what lies in the working directory or at home must not silence a finding
            inventory.write_bytes(sbom.content)
            done = self.tool.with_environment(**self.environment).run(
                f"sbom:{inventory}",
                "--config",
                settings,
                "--output",
                "json",
                timeout=TIMEOUT,
                stdout_to=report,
                check=False,
                cwd=work,
            )
            text = report.read_text(errors="replace")
        if done.status != 0:
            raise self._failed(done.status, done.stderr)
        return parse_report(text, database=database, packages=sbom.packages, sbom=sbom.digest, scanned=self.now())

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


def _claimed(sbom: Sbom) -> Sbom | None:
    """The SBOM without the distribution's packages, if one of them claims files of another package."""

    def without_system(data: dict[str, Any]) -> Sbom | None:
        if not any(each["type"] == OVERLAP for each in data.get("artifactRelationships") or ()):
            return None
        data["artifacts"] = [each for each in data["artifacts"] if each["type"] not in SYSTEM]
        return Sbom(json.dumps(data).encode(), sbom.packages, sbom.tool)

    return _read(sbom, without_system)


def _read(sbom: Sbom, read: Callable[[dict[str, Any]], T]) -> T:
    """What `read` makes of the SBOM's document; `ScannerFailed` where it is none of syft's."""
    try:
        return read(json.loads(sbom.content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ScannerFailed(
            f"The SBOM to be matched cannot be read: {error}\nMake it again: run the step with --fresh."
        ) from error
