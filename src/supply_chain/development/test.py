"""test: every check of a built image, side by side. A failed check is evidence; one not made is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.evidence.store import side_by_side
from supply_chain.image import BuiltImage, Frozen, Interval
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.scanner import Inventory, Scanner


class TestedImage(Frozen):
    """A built image and what every check said of it; failed checks are in here too."""

    __test__ = False

    built: BuiltImage
    checks: tuple[CheckResult, ...]
    dependencies: Report


def test(
    built: BuiltImage,
    checks: Sequence[Callable[[], CheckResult]],
    dependencies: Callable[[], tuple[CheckResult, Report]],
) -> TestedImage:
    """Make all checks; raises where one could not be made."""
    makers: list[Callable[[], CheckResult | tuple[CheckResult, Report]]] = [*checks, dependencies]
    results = side_by_side(lambda make: make(), makers)
    made: list[CheckResult] = []
    report: Report | None = None
    for result in results:
        if isinstance(result, CheckResult):
            made.append(result)
        else:
            made.append(result[0])
            report = result[1]
    assert report is not None
    return TestedImage(built=built, checks=tuple(sorted(made, key=lambda c: c.check)), dependencies=report)


def known_vulnerabilities(
    directory: Path, inventory: Inventory, scanner: Scanner, now: Callable[[], datetime]
) -> tuple[CheckResult, Report]:
    """What is known of the source's own dependencies; how much of it is accepted is the gate's to say."""
    started = now()
    sboms = inventory.of_directory(directory)
    report = scanner.scan(sboms)
    looked_at = f"{sboms.packages} declared packages" if sboms.packages else "no declared third-party packages"
    check = CheckResult(
        check=Check.DEPENDENCIES,
        passed=(f"{looked_at} held against the {report.database.kind} database {report.database.digest}",),
        warned=tuple(str(finding) for finding in report.findings),
        details={"counts": report.counts(), "packages": sboms.packages},
        tools={report.scanner: report.scanner_version, **dict([sboms.tool.split(" ", 1)])},
        interval=Interval(started=started, finished=now()),
    )
    return check, report
