"""grype: matches a stored SBOM against the vulnerability database, offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from supply_chain.adapters.command import Tool
from supply_chain.errors import DatabaseUnusable, ScannerFailed
from supply_chain.evidence.inventory import SYSTEM
from supply_chain.scratch import scratch
from supply_chain.vulnerability.findings import Database, Report, parse_report, united
from supply_chain.vulnerability.scanner import Sbom

TIMEOUT = 600.0
OVERLAP = "ownership-by-file-overlap"
"""syft's relation of a package to one whose files it says it owns."""
DATABASE_WORDS = ("database does not exist", "was built", "checksum", "not a database", "malformed",
                  "no import metadata", "not a v6 database", "failed to load vulnerability db")  # fmt: skip


@dataclass(frozen=True)
class Grype:
    """`database` says which database lies where `environment` points grype to, read anew for every scan."""

    tool: Tool
    environment: Mapping[str, str]
    database: Callable[[], Database]
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
        apart = _claimed(sbom)
        if apart is not None:
            report = united(report, self._matched(apart, before))
        if self.database() != before:
            raise DatabaseUnusable(
                "The vulnerability database was replaced while the scan ran.\nScan again; it will use the new one."
            )
        return report.model_copy(update={"sbom": sbom.digest})

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
    try:
        data = json.loads(sbom.content)
        if not any(each["type"] == OVERLAP for each in data.get("artifactRelationships") or ()):
            return None
        data["artifacts"] = [each for each in data["artifacts"] if each["type"] not in SYSTEM]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ScannerFailed(
            f"The SBOM to be matched cannot be read: {error}\nMake it again: run the step with --fresh."
        ) from error
    return Sbom(json.dumps(data).encode(), sbom.packages, sbom.tool)
