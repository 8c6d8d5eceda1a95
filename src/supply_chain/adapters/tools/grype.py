"""Matches a stored SBOM against the vulnerability database offline with grype."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.grype_report import parse_report
from supply_chain.adapters.tools.owned_programs import OVERLAP
from supply_chain.errors import DatabaseUnusable, ScannerFailed
from supply_chain.model.image import Digest, digest_of
from supply_chain.scratch import make_scratch_directory
from supply_chain.vulnerability.findings import Database, Distribution, Finding, Report
from supply_chain.vulnerability.scanner import Sbom

TIMEOUT = 600.0
MATCHED = ("--output", "json")
"""Options of grype in addition to the SBOM and an empty configuration."""
WITHOUT_OWNERS = "without the files that packages claim to own"
DATED = "with base score, dates and layer"
DATABASE_WORDS = ("database does not exist", "was built", "checksum", "not a database", "malformed",
                  "no import metadata", "not a v6 database", "failed to load vulnerability db")  # fmt: skip


class _Syft(BaseModel):
    """Base of the parts of an SBOM that are needed before it is matched; the rest is not parsed into objects."""

    model_config = ConfigDict(alias_generator=to_camel)


class _Release(_Syft):
    """The distribution, as the SBOM describes it."""

    version_codename: str | None = None


class _Artifact(_Syft):
    """A package."""

    type: str


class _Relation(_Syft):
    """A relation from one package or file to another."""

    type: str


class _Document(_Syft):
    distro: _Release | None = None
    artifacts: tuple[_Artifact, ...] = ()
    artifact_relationships: tuple[_Relation, ...] | None = None


@dataclass(frozen=True)
class Grype:
    """Grype with one environment and database.

    `database` returns the database to which `environment` points grype; it is called for every scan. `knows` returns
    whether that database has data about a distribution: without data, grype finds nothing in the distribution's
    packages and does not report that. `cost` adds environment variables that change what a scan costs but not what it
    finds. `quiet` keeps grype's output out of the run's log. `publications` returns vulnerability → when the database's
    sources first published it, as far as that is known; grype's report does not contain that.
    """

    tool: Tool
    environment: Mapping[str, str]
    database: Callable[[], Database]
    knows: Callable[[Distribution], bool]
    now: Callable[[], datetime]
    cost: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False
    publications: Callable[[Iterable[str]], Mapping[str, datetime]] = field(default=lambda _: {}, kw_only=True)

    def identify(self) -> tuple[str, Database]:
        """Return the scanner's version and the database that a scan would use now."""
        return self.tool.version, self.database()

    @cached_property
    def configuration(self) -> str:
        """Digest of how grype is called."""
        return digest_of(json.dumps([*MATCHED, WITHOUT_OWNERS, DATED]).encode())

    def scan(self, sbom: Sbom) -> Report:
        """Return a complete report; raise `ScannerFailed` or `DatabaseUnusable` otherwise.

        Grype skips packages whose files another package claims to own, and vulnerabilities of them that are fixed in
        the other one. Any image can contain such a claim, so grype gets the SBOM without them.
        """
        before = self.database()
        document = _read(sbom)
        report = self._match(_remove_owners(sbom), sbom.digest, before)
        identified = (report.distribution or Distribution(name="")).model_copy(update={"codename": _codename(document)})
        distribution = identified.model_copy(update={"in_database": bool(identified.name) and self.knows(identified)})
        findings = self._with_publications(report.findings)
        if self.database() != before:
            raise DatabaseUnusable(
                "The vulnerability database was replaced while the scan ran.\nScan again; it will use the new one."
            )
        return report.model_copy(
            update={"distribution": distribution, "configuration": self.configuration, "findings": findings}
        )

    def _with_publications(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        dates = self.publications({name for each in findings for name in (each.id, *each.aliases)})

        def first(finding: Finding) -> datetime | None:
            return min((dates[name] for name in (finding.id, *finding.aliases) if name in dates), default=None)

        return tuple(each.model_copy(update={"published": first(each)}) for each in findings)

    def _match(self, sbom: Sbom, digest: Digest, database: Database) -> Report:
        with make_scratch_directory("grype") as work:
            inventory, report, settings = (work / each for each in ("sbom.json", "report.json", "none.yaml"))
            settings.touch()  # a configuration in the working or home directory must not hide a finding
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
            raise self._scan_error(done.status, done.stderr)
        return parse_report(text, database=database, packages=sbom.packages, sbom=digest, scanned=self.now())

    def _scan_error(self, status: int, stderr: str) -> ScannerFailed | DatabaseUnusable:
        message = stderr[-2000:].strip()
        if any(word in message for word in DATABASE_WORDS):
            return DatabaseUnusable(
                f"grype cannot use its database: {message}\nRun `cscm up`; it makes a database that fits, and keeps it."
            )
        return ScannerFailed(
            f"{self.tool.name} ended with status {status} without a report: {message}\n"
            "Look at its message; then scan again."
        )


def _read(sbom: Sbom) -> _Document:
    """Parse an SBOM; raise `ScannerFailed` if it is not in syft's format."""
    try:
        return _Document.model_validate_json(sbom.content)
    except ValidationError as error:
        raise _format_error(error.errors()[0]["msg"]) from error


def _codename(document: _Document) -> str:
    """Return the codename of the distribution's release, which grype uses too to look up a distribution."""
    return (document.distro and document.distro.version_codename) or ""


def _remove_owners(sbom: Sbom) -> Sbom:
    """Return an SBOM without its packages' lists of files and what follows from them.

    Grype makes the relations again from the lists, as syft does. The SBOM was parsed successfully before.
    """
    data = json.loads(sbom.content)
    relations = data.get("artifactRelationships") or ()
    data["artifactRelationships"] = [each for each in relations if each["type"] != OVERLAP]
    for each in data.get("artifacts", ()):
        if isinstance(metadata := each.get("metadata"), dict):
            metadata.pop("files", None)
    return Sbom(json.dumps(data).encode(), sbom.packages, sbom.tool)


def _format_error(why: str) -> ScannerFailed:
    return ScannerFailed(f"The SBOM to be matched cannot be read: {why}\nMake it again: run the step with --force.")
