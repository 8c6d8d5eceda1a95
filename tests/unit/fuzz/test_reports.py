"""Any output of the scanner is read completely or raises `ScannerFailed`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.tools.grype_report import parse_report
from supply_chain.errors import ScannerFailed
from supply_chain.vulnerability.findings import Database, Distribution, Report
from supply_chain.vulnerability.scanner import Sbom
from tests.support.builders import NOON
from tests.support.examples import tries
from tests.support.program import Program
from tests.unit.fuzz.changes import JSON, changed, recorded

DATABASE = Database(kind="starter", built=NOON, digest="xxh64:0")
GRYPE, SYFT = recorded("grype.json"), recorded("syft.json")


def parse(text):
    return parse_report(text, database=DATABASE, packages=2, sbom=None, scanned=NOON)


def test_recorded_report_is_read_completely():
    """Every match is a finding, and the known exploited one is marked."""
    report = parse(json.dumps(GRYPE))

    assert len(report.findings) == len(GRYPE["matches"]) == 3
    assert {each.type for each in report.findings} == {"deb", "python"}
    assert report.findings[0].known_exploited
    assert report.distribution == Distribution(name="debian", version="12")


@tries(400)
@given(changed(GRYPE))
def test_changed_report_keeps_every_match_or_is_refused(document):
    """What is read can be signed and read again."""
    try:
        report = parse(json.dumps(document))
    except ScannerFailed:
        return
    assert len(report.findings) == len(document["matches"])
    assert Report.model_validate(json.loads(json.dumps(report.predicate(), allow_nan=False))["cscm"]) == report


@given(JSON.map(json.dumps) | st.text(max_size=50) | st.integers(0, 5000).map(lambda n: json.dumps(GRYPE)[:n]))
def test_report_of_other_shape_is_refused(text):
    """The input is other JSON, text, or a truncated report."""
    with pytest.raises(ScannerFailed):
        parse(text)


@pytest.fixture(scope="module")
def scanner(tmp_path_factory):
    """Return a scanner whose grype always gives the recorded report."""
    tool = Program(tmp_path_factory.mktemp("grype"), "grype").does(stdout=json.dumps(GRYPE))
    return Grype(tool, {}, lambda: DATABASE, lambda distribution: True, lambda: NOON)


@tries(40)
@given(document=changed(SYFT) | JSON)
def test_changed_sbom_is_scanned_or_refused(scanner, document):
    """The only error is `ScannerFailed`."""
    try:
        report = scanner.scan(Sbom(json.dumps(document).encode(), 2, "syft 1.57.0"))
    except ScannerFailed:
        return
    assert len(report.findings) == 3
    assert isinstance(report.distribution, Distribution)
