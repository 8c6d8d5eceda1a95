"""The contract of the port `Results`, for the cache in memory and the one in files."""

from __future__ import annotations

from typing import Any

import pytest

from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.matching import Key, Results
from tests.support.builders import DIGEST, OTHER, finding, report


def made(sbom: str = DIGEST, **changes: Any) -> tuple[Key, Report]:
    """Return a complete report and its key."""
    found = report(sbom=sbom, configuration="plain", **changes)
    key = Key.of_report(found)
    assert key
    return key, found


class ResultsContract:
    """The tests. A subclass has a fixture `results`, an empty cache."""

    def test_report_is_returned_for_exactly_its_key(self, results: Results) -> None:
        """A report of another SBOM, database, scanner or configuration says nothing."""
        key, found = made()
        results.put(key, found)

        assert results.get(key) == found
        for change in ({"sbom": OTHER}, {"database": "xxh64:9"}, {"version": "2"}, {"configuration": "another"}):
            assert results.get(key.model_copy(update=change)) is None

    def test_later_report_replaces_the_earlier_one(self, results: Results) -> None:
        """It was requested because the earlier one was too old."""
        key, _ = made()
        for findings in ((), (finding(),)):
            results.put(key, report(*findings, sbom=DIGEST, configuration="plain"))

        found = results.get(key)

        assert found is not None and found.findings == (finding(),)

    @pytest.mark.parametrize("changes", [{"sbom": OTHER}, {"sbom": None}, {"configuration": ""}], ids=str)
    def test_report_that_does_not_match_its_key_is_not_returned(
        self, results: Results, changes: dict[str, object]
    ) -> None:
        """The image is then scanned again."""
        key, found = made()
        results.put(key, found.model_copy(update=changes))

        assert results.get(key) is None
