"""A waiver of a rule is not called active where the severity that its signer may accept stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supply_chain.model.tier import Gate
from supply_chain.policy.documents import RuleDocument
from supply_chain.policy.loading import read_project_waivers
from supply_chain.policy.people import FILE, read_people
from supply_chain.policy.policies import Policies
from supply_chain.policy.waiver_limits import explain_limits
from supply_chain.policy.waivers import DIRECTORY, Waivers, WaiverState, read_waivers
from tests.support.builders import NOON
from tests.support.people import Office
from tests.support.policies import POLICIES, policy, rule

FINDINGS = "each in image.scan.findings"
SEVERITIES = "each in image.scan.severities"
NO_HIGH = "each.severity != 'high' || each.found == 0"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def explained(office: Office, severity: str | None, policies: Policies, *rules: str) -> tuple[WaiverState, str]:
    """Return what is reported of a waiver of rules by a signer who may accept up to a severity."""
    office.write_people(vulnerabilities=severity)
    office.waive("mine", rules=rules)
    before = read(office, policies)
    after = explain_limits(before, policies, NOON)
    (report,) = after.reports
    assert after.valid == before.valid, "what the gates apply does not change"
    return report.state, report.why


def read(office: Office, policies: Policies) -> Waivers:
    people = read_people(office.project / FILE, office.people_owner, NOON)
    return read_waivers(office.project / DIRECTORY, people, policies.waivable, NOON)


def of(*rules: RuleDocument) -> Policies:
    return Policies(policy(Gate.INTAKE, rule("a.z")), policy(Gate.RELEASE, *rules), policy(Gate.DEPLOY, rule("a.z")))


@pytest.mark.parametrize(
    ("severity", "name", "why"),
    [
        ("high", "scan.critical", "ann may accept no finding worse than high, and scan.critical refuses an image only "
         "for such"),
        ("critical", "scan.critical", ""),
        ("high", "scan.high", ""),
        ("high", "scan.medium", ""),
        ("medium", "scan.high", "ann may accept no finding worse than medium, and scan.high refuses an image only for "
         "such"),
        ("high", "scan.unknown", "ann may accept no finding worse than high, and scan.unknown refuses an image only "
         "for such"),
        (None, "scan.low", "ann may accept no finding, and scan.low refuses an image only for such"),
        (None, "sbom.empty", ""),
    ],
)  # fmt: skip
def test_waiver_of_shipped_rule_says_whether_its_signer_stops_it(
    office: Office, severity: str | None, name: str, why: str
) -> None:
    """It would be called active, and the gate would refuse the image all the same."""
    state = WaiverState.INERT if why else WaiverState.ACTIVE
    assert explained(office, severity, POLICIES, name) == (state, why)


@pytest.mark.parametrize(
    ("changes", "severity", "state"),
    [
        ({"for_each": FINDINGS, "expression": "each.severity != 'low'"}, None, WaiverState.INERT),
        ({"for_each": FINDINGS, "expression": "each.severity != 'low'"}, "low", WaiverState.ACTIVE),
        ({"expression": "size(image.scan.findings) == 0"}, None, WaiverState.ACTIVE),
        ({"for_each": SEVERITIES, "expression": f"{NO_HIGH} || image.digest == ''"}, "medium", WaiverState.ACTIVE),
        ({"for_each": SEVERITIES, "expression": f"{NO_HIGH} || each.accepted > 1000"}, "medium", WaiverState.INERT),
        ({"for_each": SEVERITIES, "expression": "each.accepted < 0"}, "medium", WaiverState.ACTIVE),
        ({"for_each": SEVERITIES, "expression": "each.severity != 'low' || each.found < 9"}, None, WaiverState.INERT),
        ({"for_each": SEVERITIES, "expression": "each.severity != 'low' || each.found > 9"}, None, WaiverState.INERT),
        ({"for_each": SEVERITIES, "expression": "each.severity != 'low' || each.fixable == 0"}, None,
         WaiverState.INERT),
    ],
    ids=["findings", "some findings", "number", "other facts", "limit", "not evaluated", "many", "few", "fixable"],
)  # fmt: skip
def test_waiver_is_inert_only_if_its_rule_refuses_nothing_else(
    office: Office, changes: dict[str, Any], severity: str | None, state: WaiverState
) -> None:
    """Elsewhere it depends on the image, and the report says so."""
    found, why = explained(office, severity, of(rule("a.b", **changes)), "a.b")

    assert found is state
    may = "ann may accept no finding" + (f" worse than {severity}" if severity else "")
    ends = {WaiverState.INERT: ", and a.b refuses an image only for such"}
    assert why == may + ends.get(state, ", so that a.b still refuses an image for one")


def test_waiver_of_several_rules_is_active_if_one_can_be_waived(office: Office) -> None:
    """The report names the others."""
    looped = rule("a.b", for_each=SEVERITIES, expression=NO_HIGH)

    found = explained(office, "low", of(looped, rule("a.c")), "a.b", "a.c")

    assert found == (
        WaiverState.ACTIVE,
        "ann may accept no finding worse than low, and a.b refuses an image only for such",
    )


def test_project_reports_limited_waivers(office: Office) -> None:
    """The command line and the daily report read them so."""
    office.write_people(vulnerabilities="low")
    office.waive("mine", rules=("scan.high",))
    people = read_people(office.project / FILE, office.people_owner, NOON)

    (report,) = read_project_waivers(office.project, people, POLICIES, NOON).reports

    assert report.state is WaiverState.INERT and "refuses an image only for such" in report.why


def test_waiver_of_a_vulnerability_is_not_limited_by_rules(office: Office) -> None:
    """Its severity is that of the finding, which no rule knows before."""
    office.write_people(vulnerabilities="low")
    office.waive("zlib")
    before = read(office, POLICIES)

    assert explain_limits(before, POLICIES, NOON) == before
