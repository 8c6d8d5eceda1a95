"""What the scanner really wrote, and what it might: all of it is read, or `ScannerFailed` and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.tools.grype import Grype
from supply_chain.errors import ScannerFailed
from supply_chain.vulnerability.findings import Database, Distribution, Report, parse_report
from supply_chain.vulnerability.scanner import Sbom
from tests.unit.conftest import NOON, Program, tries
from tests.unit.fuzz.changes import JSON, changed, recorded

DATABASE = Database(kind="starter", built=NOON, digest="xxh64:0")
GRYPE, SYFT = recorded("grype.json"), recorded("syft.json")


def parse(text):
    return parse_report(text, database=DATABASE, packages=2, sbom=None, scanned=NOON)


def test_a_recorded_report_is_read_whole():
    """Every match is a finding, and the exploited one is known as that."""
    report = parse(json.dumps(GRYPE))

    assert len(report.findings) == len(GRYPE["matches"]) == 3
    assert {each.type for each in report.findings} == {"deb", "python"}
    assert report.findings[0].known_exploited
    assert report.distribution == Distribution(name="debian", version="12")


@tries(400)
@given(changed(GRYPE))
def test_a_changed_report_loses_no_match(document):
    """It is read with as many findings as it has matches, and can be signed and read again, or it is no report."""
    try:
        report = parse(json.dumps(document))
    except ScannerFailed:
        return
    assert len(report.findings) == len(document["matches"])
    assert Report.model_validate(json.loads(json.dumps(report.predicate(), allow_nan=False))["cscm"]) == report


@given(JSON.map(json.dumps) | st.text(max_size=50) | st.integers(0, 5000).map(lambda n: json.dumps(GRYPE)[:n]))
def test_what_has_another_shape_is_no_report(text):
    """Valid JSON of the wrong shape, text, and a report that breaks off."""
    with pytest.raises(ScannerFailed):
        parse(text)


@pytest.fixture(scope="module")
def scanner(tmp_path_factory):
    """grype's answer, whatever it is asked."""
    tool = Program(tmp_path_factory.mktemp("grype"), "grype").does(stdout=json.dumps(GRYPE))
    return Grype(tool, {}, lambda: DATABASE, lambda distribution: True, lambda: NOON)


@tries(40)
@given(document=changed(SYFT) | JSON)
def test_a_changed_inventory_is_scanned_or_refused(scanner, document):
    """`ScannerFailed` where what syft wrote is not what it writes."""
    try:
        report = scanner.scan(Sbom(json.dumps(document).encode(), 2, "syft 1.57.0"))
    except ScannerFailed:
        return
    assert len(report.findings) == 3
    assert isinstance(report.distribution, Distribution)
