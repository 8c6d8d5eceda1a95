"""Deployments that rest on a break-glass: the deploy gate judges them again as long as they should run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.break_glass import MOST_OVERRIDES
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.deployment import Expected, read_deployed_image
from supply_chain.execution.observation import Deviation
from supply_chain.model.image import ImageRef
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.gate import evaluate, list_overrides
from supply_chain.policy.outcome import Admitted, Refused, RuleOutcome
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.rejudge import UNDECIDED
from supply_chain.policy.verdict import record
from supply_chain.text import summarize_error


@dataclass(frozen=True)
class Judge:
    """What judges the images of one environment."""

    read: Callable[[ImageRef], DeployFacts]
    """Returns the facts of the deploy gate for the environment."""
    policy: Callable[[], GatePolicy[DeployFacts]]
    """Returns the active policies of the gate; raises an error of `UNDECIDED` if there are none."""
    evidence: EvidenceStore
    now: Callable[[], datetime]


def find_overridable(facts: DeployFacts, policy: GatePolicy[DeployFacts], now: datetime) -> tuple[str, ...] | Refused:
    """Return what a new break-glass has to override, as `list_overrides`.

    Return the refusal if it cannot override all of it. Raise `DeclarationInvalid` if there is nothing to override, or
    too much. Earlier uses of break-glass do not count, so that one can be followed by another.
    """
    facts = replace(facts, break_glass=())
    verdict = evaluate(facts, policy, now)
    if isinstance(verdict, Admitted):
        where = f"{facts.ref} --environment {facts.environment.name}"
        raise DeclarationInvalid(
            f"The deploy gate admits {facts.ref}, so there is nothing to override.\nDeploy it: cscm deploy {where}"
        )
    refusing = {each.rule for each in verdict.results if each.result is RuleOutcome.REFUSED}
    fixed = {rule.id for rule in policy.rules if not rule.document.break_glass}
    if refusing & fixed:
        return verdict
    if len(overrides := list_overrides(facts, policy, now)) > MOST_OVERRIDES:
        raise DeclarationInvalid(
            f"{facts.ref} is refused for {len(overrides)} reasons and findings, and a break-glass overrides at most "
            f"{MOST_OVERRIDES}.\n"
            "Waive what you accept (docs/how-to/waivers.md), or deploy another image."
        )
    return overrides


def judge_again(expected: Expected, judge: Judge) -> Deviation | None:
    """Judge a deployment that rests on a break-glass, and record the verdict; return why it is refused, or None.

    An image that cannot be judged is reported too. Nothing is stopped. Raise the registry's errors.
    """
    ref = read_deployed_image(expected)
    how = f"{expected.name} was deployed by break-glass {expected.break_glass}"
    try:
        facts, now = judge.read(ref), judge.now()
        verdict = evaluate(facts, judge.policy(), now)
    except UNDECIDED as error:
        return Deviation(
            code="drift.not-judged",
            fact=f"{how}, and the deploy gate cannot judge it now: {summarize_error(error)}",
            remedy="Correct what the message names, or deploy another image in its place.",
        )
    record(verdict, facts, judge.evidence, now)
    if isinstance(verdict, Admitted):
        return None
    reasons = "; ".join(f"{each.fact} ({each.code})" for each in verdict.reasons)
    return Deviation(
        code="drift.refused",
        fact=f"{how}, and the deploy gate refuses it now: {reasons}",
        remedy="Deploy another image in its place, or correct the reasons and deploy it again. It runs until then.",
    )
