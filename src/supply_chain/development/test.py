"""The step that runs all checks of a built image in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from pydantic import Field

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.checks import Check, CheckResult, find_reusable_result
from supply_chain.evidence.reading import SignedValue, make_proof
from supply_chain.evidence.sbom import list_packages
from supply_chain.evidence.statement import VerifiedStatement
from supply_chain.model.image import BuiltImage, Digest, Interval, Provable
from supply_chain.text import truncate_lines
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import find_current_report
from supply_chain.vulnerability.scanner import Sbom, Scanner, SourceSbomGenerator

MOST_SENTENCES = 100
"""Largest number of failures, and of warnings, in the result of one check; a source may have any number."""


class TestedImage(Provable):
    """A built image with the results of all checks, including failed ones."""

    __test__ = False

    built: BuiltImage
    checks: tuple[CheckResult, ...]
    dependencies: Report
    stored_checks: tuple[Check, ...] = Field(
        default=(), description="checks whose signed results lie in the registry already"
    )


@dataclass(frozen=True)
class Planned:
    """A check that can be made, and the versions of the tools that would make it."""

    check: Check
    tools: Mapping[str, str]
    make: Callable[[], CheckResult]


@dataclass(frozen=True)
class Dependencies:
    """The check for known vulnerabilities of what the source declares. A report is valid for `days`."""

    source: Path
    """A directory with exactly the files that the build uses."""
    generator: SourceSbomGenerator
    scanner: Scanner
    days: int
    now: Callable[[], datetime]

    @cached_property
    def result(self) -> tuple[CheckResult, Report]:
        """The result and the report, made at the first call.

        Known vulnerabilities are warnings, never failures: the intake gate decides how many are acceptable.
        """
        started = self.now()
        sbom = self.generator.make_directory_sbom(self.source)
        report = _with_packages(self.scanner.scan(sbom), sbom)
        looked_at = f"{sbom.packages} declared packages" if sbom.packages else "no declared third-party packages"
        check = CheckResult(
            check=Check.DEPENDENCIES,
            passed=(f"{looked_at} held against the {report.database.kind} database {report.database.digest}",),
            warned=tuple(str(finding) for finding in report.findings),
            details={"counts": report.counts(), "packages": sbom.packages},
            tools=_tools(report, sbom.tool),
            interval=Interval(started=started, finished=self.now()),
        )
        return check, report


@dataclass(frozen=True)
class EarlyChecks:
    """The checks that are made during the build; each is made once, and again if it could not be made."""

    source: Sequence[Planned]
    """The checks that need no image."""
    dependencies: Dependencies
    content: Callable[[Digest], CheckResult]
    """Checks the content of the image of this digest, which the engine has."""

    def check_source(self) -> None:
        """Make the checks that need no image, two at a time; raise the error of the first that cannot be made."""
        makers: list[Callable[[], object]] = [lambda: self.dependencies.result, *(plan.make for plan in self.source)]
        map_concurrently(lambda make: make(), makers, 2)

    def check_content(self, digest: Digest) -> None:
        """Check the content of an image; if that is not possible, the step of the tests says why."""
        with suppress(SupplyChainError):
            self.content(digest)


def test(
    built: BuiltImage,
    planned: Sequence[Planned],
    dependencies: Dependencies,
    evidence: Sequence[VerifiedStatement],
    now: Callable[[], datetime],
) -> TestedImage:
    """Make the checks in parallel, started in the given order, and return the image with all results.

    A failed check is evidence; a check that could not be made raises its error. `evidence` is what development signed
    about this image before: a check that passed with the same tools is not made again.
    """
    passed = {p.check: statement for p in planned if (statement := find_reusable_result(p.check, evidence, p.tools))}
    before = _find_current_report(dependencies, evidence, now())
    if before:
        passed[Check.DEPENDENCIES] = before[1]
    results = make_checks([plan for plan in planned if plan.check not in passed], None if before else dependencies)
    return TestedImage(
        built=built,
        checks=tuple(sorted([*results, *(each.value for each in passed.values())], key=lambda c: c.check)),
        dependencies=before[0] if before else dependencies.result[1],
        stored_checks=tuple(passed),
        proven=None
        if results
        else make_proof(sorted((each.evidence for each in passed.values()), key=lambda e: e.digest)),
    )


def make_checks(planned: Sequence[Planned], dependencies: Dependencies | None) -> list[CheckResult]:
    """Make checks in parallel, that of `dependencies` first, and return their results."""
    makers: list[Callable[[], CheckResult]] = [plan.make for plan in planned]
    if dependencies is not None:
        makers.insert(0, lambda: dependencies.result[0])
    return list(map(_limit_sentences, map_concurrently(lambda make: make(), makers)))


def _limit_sentences(result: CheckResult) -> CheckResult:
    bounded = {name: tuple(truncate_lines(MOST_SENTENCES, getattr(result, name))) for name in ("failed", "warned")}
    return result.model_copy(update=bounded)


def _find_current_report(
    dependencies: Dependencies, evidence: Sequence[VerifiedStatement], now: datetime
) -> tuple[Report, SignedValue[CheckResult]] | None:
    report = find_current_report(evidence, dependencies.scanner, now, days=dependencies.days)
    if report is None:
        return None
    tools = _tools(report.value, dependencies.generator.generator)
    result = find_reusable_result(Check.DEPENDENCIES, evidence, tools)
    return (report.value, result) if result else None


def _tools(report: Report, generator: str) -> dict[str, str]:
    return {report.scanner: report.scanner_version, **dict([generator.split(" ", 1)])}


def _with_packages(report: Report, sbom: Sbom) -> Report:
    """Return a report with the package URLs of its findings: no SBOM of a source is attached to the image."""
    if not report.findings:
        return report
    named = {(each.type, each.package) for each in report.findings}
    packages = sorted(each for each in list_packages(sbom.content) if each[:2] in named)
    return report.model_copy(update={"source_packages": tuple(packages)})
