"""The gates: `evaluate` applies every policy that selects an image, and collects every reason to refuse it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from supply_chain.errors import PolicyInvalid
from supply_chain.model.image import Digest
from supply_chain.policy.documents import Severity
from supply_chain.policy.expressions import Values
from supply_chain.policy.fact_types import NameFacts
from supply_chain.policy.fact_values import values_of
from supply_chain.policy.facts import IntakeFacts
from supply_chain.policy.outcome import Admitted, Refused, RuleOutcome, RuleResult
from supply_chain.policy.policies import F, GatePolicy, Policy, Rule

NAME_TAKEN = "name.taken"
"""The rule that development applies before it builds."""


def evaluate(facts: F, policy: GatePolicy[F], now: datetime) -> Admitted[F] | Refused:
    """Apply every rule to the facts and return the verdict with every reason. Pure.

    Raise `RuleNotEvaluated` if a rule cannot be evaluated: then nobody knows whether it holds.
    """
    results = judge(values_of(facts), policy, now)
    reasons = tuple(reason for each in results if each.result is RuleOutcome.REFUSED for reason in each.reasons)
    notes = tuple(reason.fact for each in results if each.result is RuleOutcome.WARNED for reason in each.reasons)
    if reasons:
        return Refused(
            image=facts.ref, gate=policy.gate, policy=policy.digest, reasons=reasons, notes=notes, results=results
        )
    return Admitted(facts=facts, gate=policy.gate, policy=policy.digest, notes=notes, results=results)


@dataclass(frozen=True)
class SharedResults:
    """What several policies share that judge the same image at the same time."""

    values: Values
    results: dict[Digest, tuple[RuleResult, ...]] = field(default_factory=dict)
    """Digest of a policy → the results of its rules."""

    def judge(self, policy: Policy) -> tuple[RuleResult, ...]:
        """Return the results of the rules of a policy, and of an equal one without evaluating it again."""
        if policy.digest not in self.results:
            results = (_result(rule, str(policy), self.values, self.values.now) for rule in policy.rules)
            self.results[policy.digest] = tuple(results)
        return self.results[policy.digest]


def judge(
    image: Mapping[str, Any], policy: GatePolicy[Any], now: datetime, shared: SharedResults | None = None
) -> tuple[RuleResult, ...]:
    """Return the result of every rule of the policies that select an image; raise `PolicyInvalid` if none does.

    `shared` are the values of this image at this time, and what others have judged of it.
    """
    shared = shared or SharedResults(Values.of(policy.gate, image, now))
    selected = [each for each in policy.policies if each.selects(image)]
    if not selected:
        raise PolicyInvalid(
            f"No policy of the {policy.gate} gate selects {image['application']}.\n"
            "Write one that does: an image that no policy judges is not admitted."
        )
    return tuple(result for each in selected for result in shared.judge(each))


def refuse_name(conflict: NameFacts, policy: GatePolicy[IntakeFacts], now: datetime) -> Refused | None:
    """Return the intake gate's refusal of a name that belongs to another source, before anything is built.

    Return None if no rule of the gate refuses it.
    """
    values = Values.of(policy.gate, {"name_conflict": conflict}, now)
    rules = (rule for rule in policy.rules if rule.id == NAME_TAKEN and rule.severity(now) is Severity.DENY)
    reasons = tuple(reason for rule in rules for reason in rule.reasons(values) or ())
    if not reasons:
        return None
    return Refused(image=None, application=conflict["name"], gate=policy.gate, policy=policy.digest, reasons=reasons)


def _result(rule: Rule, policy: str, values: Values, now: datetime) -> RuleResult:
    reasons = rule.reasons(values)
    if reasons is None:
        return RuleResult(rule=rule.id, policy=policy, result=RuleOutcome.NOT_APPLICABLE)
    refuses = rule.severity(now) is Severity.DENY
    result = (RuleOutcome.REFUSED if refuses else RuleOutcome.WARNED) if reasons else RuleOutcome.PASSED
    return RuleResult(rule=rule.id, policy=policy, result=result, reasons=reasons)
