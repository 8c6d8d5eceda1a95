"""Stand-ins of the SBOM generator and the scanner where nothing is generated and scanned."""

from __future__ import annotations

from pathlib import Path

from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.findings import Database, Report
from supply_chain.vulnerability.scanner import Sbom, Sboms


class NoGenerator:
    """A generator that must not run; a test overrides what may."""

    generator = "syft 1.2.3"

    def of_image(self, ref: ImageRef) -> Sboms:
        raise AssertionError(ref)

    def examine(self, ref: ImageRef) -> Examination:
        raise AssertionError(ref)

    def of_directory(self, directory: Path) -> Sboms:
        raise AssertionError(directory)


class NoScanner:
    """A scanner that must not run; a test overrides what may."""

    configuration = ""

    def current(self) -> tuple[str, Database]:
        raise AssertionError

    def scan(self, sbom: Sbom) -> Report:
        raise AssertionError(sbom)
