"""A cache of scan reports in memory, with the methods of `adapters.vulndb.report_cache.ReportCache`."""

from __future__ import annotations

from dataclasses import dataclass, field

from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.matching import Key


@dataclass
class MemoryResults:
    """Reports by the name of their key."""

    reports: dict[str, Report] = field(default_factory=dict)

    def get(self, key: Key) -> Report | None:
        found = self.reports.get(key.name)
        return found if found and Key.of_report(found) == key else None

    def put(self, key: Key, report: Report) -> None:
        self.reports[key.name] = report
