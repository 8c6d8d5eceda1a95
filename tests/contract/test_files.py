"""The report cache and the journal in files, and those in memory, have the same contracts."""

from __future__ import annotations

from pathlib import Path

import pytest

from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.adapters.vulndb.report_cache import ReportCache
from supply_chain.lifecycle.apply import PlanJournal
from supply_chain.vulnerability.matching import Results
from tests.contract.journal import JournalContract
from tests.contract.results import ResultsContract
from tests.support.memory_journal import MemoryJournal
from tests.support.memory_results import MemoryResults


class TestMemoryResults(ResultsContract):
    @pytest.fixture
    def results(self) -> Results:
        return MemoryResults()


class TestReportCache(ResultsContract):
    @pytest.fixture
    def results(self, tmp_path: Path) -> Results:
        return ReportCache(tmp_path / "results")


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> PlanJournal:
        return MemoryJournal()


class TestFileJournal(JournalContract):
    @pytest.fixture
    def journal(self, tmp_path: Path) -> PlanJournal:
        return FileJournal(tmp_path / "below" / "journal")
