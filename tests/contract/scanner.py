"""The contract of the port `Scanner`, for the scanner in memory and grype."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from supply_chain.errors import ScannerFailed
from supply_chain.vulnerability.scanner import Sbom, Scanner


@dataclass(frozen=True)
class Harness:
    """A scanner, an SBOM in which it finds something, and one with other packages."""

    scanner: Scanner
    vulnerable: Sbom
    other: Sbom


class ScannerContract:
    """The tests. A subclass has a fixture `harness`."""

    def test_report_names_sbom_scanner_and_database(self, harness: Harness) -> None:
        """Whether a report is still good enough is decided by these."""
        version, database = harness.scanner.identify()
        for sbom in (harness.vulnerable, harness.other):
            report = harness.scanner.scan(sbom)

            assert (report.sbom, report.packages) == (sbom.digest, sbom.packages)
            assert (report.scanner_version, report.database) == (version, database)
            assert report.configuration == harness.scanner.configuration
            assert report.distribution is not None

    def test_findings_are_sorted_worst_first(self, harness: Harness) -> None:
        """A reader begins with them."""
        findings = harness.scanner.scan(harness.vulnerable).findings

        assert len(findings) > 1
        assert [each.weight for each in findings] == sorted(each.weight for each in findings)

    def test_second_report_has_the_same_content(self, harness: Harness) -> None:
        """An unchanged image is not signed again."""
        first, second = (harness.scanner.scan(harness.vulnerable) for _ in range(2))

        assert first.has_same_content(second)
        assert not first.has_same_content(harness.scanner.scan(harness.other))

    def test_sbom_that_cannot_be_read_has_no_report(self, harness: Harness) -> None:
        """An empty report would call the image clean."""
        with pytest.raises(ScannerFailed):
            harness.scanner.scan(Sbom(b"no SBOM", 1, "syft 1.2.3"))
