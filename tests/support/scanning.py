"""Stand-ins of the SBOM generator, the scanner and the reports of earlier scans."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.findings import Database, Report
from supply_chain.vulnerability.matching import Key
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


@dataclass
class MemoryReports:
    """The reports of earlier scans, by the name of their key."""

    held: dict[str, Report] = field(default_factory=dict)

    def put(self, key: Key, report: Report) -> None:
        self.held[key.name] = report

    def get(self, key: Key) -> Report | None:
        return self.held.get(key.name)
