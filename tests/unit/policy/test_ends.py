"""A verdict ends with the first decision of a person that it rests on, and with the list of the people."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from supply_chain.evidence.image_status import Act, ImageStatus, LifecycleDecision
from supply_chain.model.tier import Gate
from supply_chain.policy.ends import find_end
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import RuleOutcome, RuleResult, UsedBreakGlass, UsedWaiver
from supply_chain.policy.people import People
from tests.support.builders import DIGEST, NOON
from tests.support.facts import release_facts
from tests.support.policies import policy, rule

DAY = timedelta(days=1)
PEOPLE_END, LATER = NOON + 30 * DAY, NOON + 60 * DAY
COUNTING = {"expression": "size(image.approvers) >= image.environment.signed_approvals"}


def end_of(
    image: dict[str, Any],
    *results: RuleResult,
    expires: datetime | None = PEOPLE_END,
    unblock: LifecycleDecision | None = None,
    **counting: Any,
) -> datetime | None:
    """Return the end of results at the deploy gate, where one rule counts approvals."""
    asked = replace(policy(Gate.DEPLOY, rule("a.counting", **{**COUNTING, **counting})), people=People(expires=expires))
    return find_end(image, results, unblock, asked, NOON)


def waived(expires: datetime) -> RuleResult:
    """Return the result of a rule with a waiver."""
    used = UsedWaiver(name="zlib", digest=DIGEST, by="ann", reason="not reachable", expires=expires)
    return RuleResult(rule="a.b", policy="test 1", result=RuleOutcome.WAIVED, waivers=(used,))


def overridden(expires: datetime) -> RuleResult:
    """Return the result of a rule with a break-glass."""
    used = UsedBreakGlass(by="ann", reason="outage", expires=expires)
    return RuleResult(rule="a.b", policy="test 1", result=RuleOutcome.OVERRIDDEN, break_glass=used)


def counted(result: RuleOutcome = RuleOutcome.PASSED) -> RuleResult:
    """Return the result of the rule that counts approvals."""
    return RuleResult(rule="a.counting", policy="test 1", result=result)


def scanned(*vex: dict[str, Any] | None) -> dict[str, Any]:
    """Return facts with a finding for each statement, or without one."""
    return {"scan": {"findings": [{"vex": each} if each else {} for each in vex]}}


def test_verdict_without_decisions_has_no_end() -> None:
    """People are listed, and none of them decided."""
    assert end_of({}) is None
    assert end_of(scanned(None), counted()) is None


@pytest.mark.parametrize("used", [waived, overridden])
def test_verdict_ends_with_the_first_decision_or_the_list(used: Any) -> None:
    """Nobody's decision counts once people.yaml has expired."""
    assert end_of({}, used(NOON + DAY), used(NOON + 2 * DAY)) == NOON + DAY
    assert end_of({}, used(LATER)) == PEOPLE_END
    assert end_of({}, used(LATER), expires=None) == LATER


def test_accepted_investigation_ends_the_verdict() -> None:
    """After that, the finding counts. A statement that is not accepted is no basis."""
    investigated = {"accepted": True, "until": NOON + DAY}

    assert end_of(scanned(None, {"accepted": True, "until": NOON + 2 * DAY}, investigated)) == NOON + DAY
    assert end_of(scanned({"accepted": False, "until": NOON + DAY})) is None
    assert end_of(scanned({"accepted": True, "until": LATER})) == PEOPLE_END


def test_accepted_statement_without_an_end_ends_with_its_issuers() -> None:
    """people.yaml says whose statements count."""
    assert end_of(scanned({"accepted": True})) == PEOPLE_END
    assert end_of(scanned({"accepted": False})) is None
    assert end_of(scanned({"accepted": True}), expires=None) is None


def test_counted_approvals_end_with_the_list_of_people() -> None:
    """Only if a rule that refuses counted them, and there are some."""
    approved = {"approvers": ["ann"]}

    assert end_of(approved, counted()) == PEOPLE_END
    assert end_of(approved, counted(), expression="size(image.independent_approvers) > 0") == PEOPLE_END
    assert end_of({"approvers": []}, counted()) is None
    assert end_of(approved, counted(RuleOutcome.NOT_APPLICABLE)) is None
    assert end_of(approved, counted(), expression="image.signed") is None
    assert end_of(approved, counted(), severity="warn") is None
    assert end_of(approved, counted(), effective_on=PEOPLE_END) == PEOPLE_END, "it refuses by then"
    assert end_of(approved, counted(), effective_on=LATER) is None


def test_counted_reviews_end_with_the_list_of_people() -> None:
    """people.yaml says whose reviews count, too."""
    reviewed, counting = {"build": {"reviewers": ["ann"]}}, "size(image.build.reviewers) > 0"

    assert end_of(reviewed, counted(), expression=counting) == PEOPLE_END
    assert end_of(reviewed, counted(RuleOutcome.REFUSED), expression=counting) is None
    assert end_of(reviewed, counted(), expression="image.signed") is None
    assert end_of({"build": {"reviewers": []}}, counted(), expression=counting) is None


def admitted_before(end: datetime | None, *waivers: str, passed: bool = True) -> dict[str, Any]:
    """Return facts with a verdict of the release gate that has an end."""
    verdict = {"passed": passed, "waivers": waivers, **({"expires": end} if end else {})}
    return {"verdicts": {"intake": {"passed": True, "waivers": ()}, "release": verdict}}


def test_verdict_ends_with_an_earlier_admission() -> None:
    """Also if that has ended, and policies have no rule about it: then the verdict admits nothing."""
    for end in (NOON + DAY, NOON, NOON - DAY):
        assert end_of(admitted_before(end)) == end
        assert end_of(admitted_before(end), waived(NOON + 2 * DAY)) == end
    assert end_of(admitted_before(NOON + 2 * DAY), waived(NOON + DAY)) == NOON + DAY
    assert end_of(admitted_before(None)) is None
    assert end_of(admitted_before(NOON + DAY, passed=False)) is None
    assert end_of(admitted_before(LATER)) == LATER, "it rests on no waiver"
    assert end_of(admitted_before(LATER, "zlib")) == PEOPLE_END, "people.yaml was shortened"


@pytest.mark.parametrize("result", RuleOutcome)
def test_refused_ended_admission_does_not_end_verdict(result: RuleOutcome) -> None:
    """A refusal does not rest on it, and what accepts it has an end of its own. An end in the future is none of it."""
    reading = "now < image.verdicts.release.expires"
    found, breaking = admitted_before(NOON), {RuleOutcome.REFUSED, RuleOutcome.WAIVED, RuleOutcome.OVERRIDDEN}

    assert end_of(found, counted(result), expression=reading) == (None if result in breaking else NOON)
    assert end_of(admitted_before(NOON + DAY), counted(result), expression=reading) == NOON + DAY
    assert end_of(found, counted(result), expression="image.verdicts.release.passed") == NOON


def test_unblocked_image_is_admitted_until_the_list_of_people_ends() -> None:
    """With `lifting_decisions: signed`, nobody ended the block after that. A name as typed is in no list."""
    typed = LifecycleDecision(act=Act.UNBLOCK, by="ann", reason="so", at=NOON)
    signed = typed.model_copy(update={"signature": "{}"})

    assert end_of({}, unblock=signed) == PEOPLE_END
    assert end_of({}, unblock=typed) is None and end_of({}, unblock=signed, expires=None) is None
    asked = replace(policy(Gate.RELEASE), people=People(expires=PEOPLE_END))
    for unblock, end in ((signed, PEOPLE_END), (typed, None)):
        assert evaluate(release_facts(status=ImageStatus(unblock=unblock)), asked, NOON).expires == end


@pytest.mark.parametrize(("start", "end"), [(NOON + DAY, NOON + DAY), (LATER, PEOPLE_END)])
def test_admission_ends_with_people_or_earlier_upcoming_rule(start: datetime, end: datetime) -> None:
    """A rule that only warns refuses from its date; a signed unblock ends with people.yaml."""
    signed = LifecycleDecision(act=Act.UNBLOCK, by="ann", reason="so", at=NOON, signature="{}")
    upcoming = replace(policy(Gate.RELEASE, rule("a.b", effective_on=start)), people=People(expires=PEOPLE_END))

    assert evaluate(release_facts(status=ImageStatus(unblock=signed)), upcoming, NOON).expires == end


def test_counted_level_of_a_builder_ends_with_the_list_of_people() -> None:
    """Without a rule that reads it, the admission does not rest on it."""
    reading: dict[str, Any] = {"when": "has(image.build)", "expression": "image.build.level == 'SLSA_BUILD_LEVEL_3'"}
    verified = {"build": {"reviewers": [], "level": "SLSA_BUILD_LEVEL_3", "level_builder": "ci"}}

    assert end_of(verified, counted(), **reading) == PEOPLE_END
    assert end_of(verified, counted(), **{**reading, "expression": "has(image.build.level_builder)"}) == PEOPLE_END
    assert end_of(verified, counted(), **{**reading, "expression": "image.build.builder != ''"}) is None
    assert end_of({"build": {"reviewers": [], "level": "SLSA_BUILD_LEVEL_3"}}, counted(), **reading) is None


def test_verdict_ends_with_approvals_that_exempt_from_a_rule() -> None:
    """Without them, the rule applies, and may refuse the image."""
    approved = {"approvers": ["ann"]}
    exempting: dict[str, Any] = {"when": "size(image.approvers) == 0", "expression": "image.signed"}

    assert end_of(approved, counted(RuleOutcome.NOT_APPLICABLE), **exempting) == PEOPLE_END
    assert end_of(approved, counted(RuleOutcome.NOT_APPLICABLE), **{**exempting, "when": "image.signed"}) is None
    assert end_of({"approvers": []}, counted(RuleOutcome.NOT_APPLICABLE), **exempting) is None
    refused = {**exempting, "when": "size(image.approvers) == 1"}
    assert end_of(approved, counted(RuleOutcome.REFUSED), **refused) is None
