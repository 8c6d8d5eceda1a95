"""A scanner in memory, with the methods of `adapters.tools.grype.Grype`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from supply_chain.errors import ScannerFailed, SupplyChainError
from supply_chain.vulnerability.findings import Database, Report
from supply_chain.vulnerability.scanner import Sbom


@dataclass
class MemoryScanner:
    """Finds the same in every SBOM that is JSON.

    `errors` are raised for some contents; `clock` gives the time of a report.
    """

    report: Report
    clock: Callable[[], datetime] | None = None
    errors: Mapping[bytes, SupplyChainError] = field(default_factory=dict)
    configuration: str = "plain"
    scanned: list[bytes] = field(default_factory=list)

    def identify(self) -> tuple[str, Database]:
        return self.report.scanner_version, self.report.database

    def scan(self, sbom: Sbom) -> Report:
        self.scanned.append(sbom.content)
        if error := self.errors.get(sbom.content):
            raise error
        try:
            json.loads(sbom.content)
        except ValueError as error:
            raise ScannerFailed(f"The SBOM cannot be read: {error}") from error
        changes: dict[str, Any] = {
            "sbom": sbom.digest, "configuration": self.configuration, "packages": sbom.packages,
        }  # fmt: skip
        if self.clock:
            changes["scanned"] = self.clock()
        return self.report.model_copy(update=changes)
