"""Deployments by break-glass: judged again as long as they should run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from supply_chain.errors import (
    ClockWrong,
    DeclarationInvalid,
    EvidenceInvalid,
    ImageNotFound,
    PolicyInvalid,
    PolicyUnsigned,
    RuleNotEvaluated,
    SettingInvalid,
)
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.summary import find_last_verdict
from supply_chain.execution.break_glass import Judge, find_overridable, judge_again
from supply_chain.execution.deployment import Deployment, Expected
from supply_chain.execution.observation import Deviation
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Refused, UsedBreakGlass
from supply_chain.policy.people import FILE, read_people
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import Waivers
from tests.support.builders import DIGEST, NOON, declaration, finding, report
from tests.support.facts import CURATED, deploy_facts, requirements, verdicts
from tests.support.people import Office
from tests.support.policies import DEPLOY
from tests.support.present import present
from tests.support.world import World

END = NOON + timedelta(hours=8)
CODES = (
    "scan.critical", "scan.critical: CVE-2026-0001 in openssl 3.0.1", "signature.missing", "verdict.release.refused",
    "verdict.release.refused: x: f",
)  # fmt: skip
USE = UsedBreakGlass(by="ann", reason="outage", expires=END)


@pytest.fixture
def expected(deployed: Callable[..., Deployment]) -> Expected:
    return deployed(environment="production", break_glass=USE).expected


@pytest.fixture
def judge(world: World, tmp_path: Path) -> Callable[..., Judge]:
    """Return a function that makes the judge of an image that the release gate refused and Ann lets run."""
    office = Office(tmp_path)
    office.write_people()
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    use = BreakGlass(
        environment="production",
        digest=DIGEST,
        by="ann",
        reason="outage",
        at=NOON,
        expires=END,
        overrides=CODES,
        installation="example",
    )
    use = use.model_copy(update={"signature": office.ann.sign(use.statement(CURATED)).decode()})
    refused = deploy_facts(
        declaration(environments=["staging", "production"]),
        signed=False,
        verdicts=verdicts(intake=True, release=False),
        report=report(finding("critical")),
        environment=requirements("production"),
        break_glass=(use,),
    )

    def make(now: datetime, facts: DeployFacts | Exception = refused) -> Judge:
        def read(ref: ImageRef) -> DeployFacts:
            assert ref == CURATED
            if isinstance(facts, Exception):
                raise facts
            return facts

        policy = DEPLOY.with_decisions(people, Waivers(), Vex())
        return Judge(read, lambda: policy, world.store(TierName.EXECUTION), lambda: now)

    return make


def test_new_break_glass_must_override_current_reasons(judge: Callable[..., Judge]) -> None:
    """An earlier one that is still in effect changes nothing: it may be followed by another."""
    facts, policy = judge(NOON).read(CURATED), judge(NOON).policy()

    assert find_overridable(facts, policy, NOON) == CODES
    admitted = replace(facts, signed=True, verdicts=verdicts(intake=True, release=True), report=report())
    with pytest.raises(DeclarationInvalid, match=r"nothing to override\.\nDeploy it: cscm deploy .* production"):
        find_overridable(admitted, policy, NOON)


def test_break_glass_cannot_be_signed_for_reason_without_override(judge: Callable[..., Judge]) -> None:
    """The refusal has all reasons."""
    exploited = replace(judge(NOON).read(CURATED), report=report(finding("low", known_exploited=True)))

    refused = find_overridable(exploited, judge(NOON).policy(), NOON)

    assert isinstance(refused, Refused) and "scan.known-exploited" in {each.code for each in refused.reasons}


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_break_glass_for_too_many_findings_is_not_signed(
    judge: Callable[..., Judge], monkeypatch: pytest.MonkeyPatch, more: int, fits: bool
) -> None:
    """What cannot be read back later would stop every decision about the image."""
    facts, policy = judge(NOON).read(CURATED), judge(NOON).policy()
    monkeypatch.setattr("supply_chain.execution.break_glass.MOST_OVERRIDES", len(CODES) - more)

    with (
        nullcontext()
        if fits
        else pytest.raises(DeclarationInvalid, match=r"for 5 reasons and findings, .* overrides at most 4\.\nWaive")
    ):
        assert find_overridable(facts, policy, NOON) == CODES


def test_finding_that_comes_up_later_refuses_the_deployment(expected: Expected, judge: Callable[..., Judge]) -> None:
    """Also with a code that is overridden for another one."""
    facts = replace(judge(NOON).read(CURATED), report=report(finding("critical"), finding("critical", package="zlib")))

    found = judge_again(expected, judge(NOON, facts))

    assert isinstance(found, Deviation) and found.code == "drift.refused" and "(scan.critical)" in found.fact


def test_reason_that_comes_up_later_refuses_the_deployment(expected: Expected, judge: Callable[..., Judge]) -> None:
    """The owner hears of it before the break-glass ends."""
    facts = replace(judge(NOON).read(CURATED), report=report(finding("critical"), finding("high")))

    found = judge_again(expected, judge(NOON, facts))

    assert isinstance(found, Deviation) and found.code == "drift.refused"
    assert "(scan.high)" in found.fact and "scan.critical" not in found.fact


def test_record_names_the_break_glass(expected: Expected) -> None:
    """It is how the next check knows what to judge again."""
    assert expected.break_glass == USE


def test_deployment_is_refused_when_its_break_glass_expires(
    expected: Expected, judge: Callable[..., Judge], world: World
) -> None:
    """Before, it is admitted; each verdict is recorded once."""
    assert judge_again(expected, judge(END - timedelta(seconds=1))) is None

    for seconds in (0, 60):
        found = judge_again(expected, judge(END + timedelta(seconds=seconds)))
        assert isinstance(found, Deviation) and found.code == "drift.refused"
        assert "by break-glass by ann until 2026-11-24 20:00 UTC: outage, and the deploy gate" in found.fact
        assert "(signature.missing); " in found.fact and "(scan.critical)" in found.fact
    place = CURATED.with_repository("evidence/execution/hello")
    signed = world.store(TierName.EXECUTION).read_verified(place, TierName.EXECUTION)
    last = present(find_last_verdict(signed, Gate.DEPLOY, DIGEST))
    assert not last.value.passed and last.at == END
    assert sum(each.predicate.get("verifier") is not None for each in signed) == 2


@pytest.mark.parametrize(
    "error",
    [
        each("broken\nx")
        for each in (
            ClockWrong, DeclarationInvalid, EvidenceInvalid, ImageNotFound, PolicyInvalid, RuleNotEvaluated,
            SettingInvalid,
        )
    ],
)  # fmt: skip
def test_deployment_that_cannot_be_judged_is_reported(
    expected: Expected, judge: Callable[..., Judge], error: Exception
) -> None:
    """Its check stops no other, and it is not taken for admitted."""
    found = judge_again(expected, judge(NOON, error))

    assert isinstance(found, Deviation) and found.code == "drift.not-judged"
    assert found.fact.endswith("and the deploy gate cannot judge it now: broken")


def test_deployment_is_reported_while_policies_are_not_signed(
    expected: Expected, judge: Callable[..., Judge], world: World
) -> None:
    """Who changes a policy cannot end the check of what runs with that, and nothing is recorded."""

    def fail() -> GatePolicy[DeployFacts]:
        raise PolicyUnsigned("broken\nx")

    before = world.registry.refs()
    found = judge_again(expected, replace(judge(NOON), policy=fail))

    assert isinstance(found, Deviation) and found.code == "drift.not-judged"
    assert world.registry.refs() == before
