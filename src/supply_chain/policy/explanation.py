"""Explains a gate's decision about an image: each rule, its result, and the facts that it read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from supply_chain.errors import RuleNotEvaluated
from supply_chain.model.image import ImageRef, Model
from supply_chain.model.tier import Gate
from supply_chain.policy.expressions import IMAGE, NOW, find
from supply_chain.policy.fact_values import join_fact_values
from supply_chain.policy.facts import F
from supply_chain.policy.gate import judge
from supply_chain.policy.outcome import RuleResult
from supply_chain.policy.policies import GatePolicy
from supply_chain.text import pluralize, render_time

ABSENT = "absent"


class RuleExplanation(Model):
    """What a rule says about an image, and why."""

    title: str = Field(description="the rule in a sentence")
    result: RuleResult
    facts: dict[str, str] = Field(description="fact → its value, as the rule read it; a list as its length")


class GateExplanation(Model):
    """What every rule of a gate says about an image."""

    image: ImageRef
    gate: Gate
    environment: str = Field(default="", description="empty except at the deploy gate")
    rules: tuple[RuleExplanation, ...]


def explain(facts: F, policy: GatePolicy[F], now: datetime) -> tuple[RuleExplanation, ...]:
    """Return each rule with its result and the facts that it read; raise as `gate.evaluate`."""
    image = join_fact_values(facts, policy, now)
    rules = {rule.id: rule for rule in policy.rules}
    return tuple(
        RuleExplanation(
            title=rules[each.rule].document.title,
            result=each,
            facts={path: _text_of(path, image, now) for path in rules[each.rule].reads},
        )
        for each in judge(image, policy, now)
    )


def _text_of(path: str, image: Mapping[str, Any], now: datetime) -> str:
    if path == NOW:
        return render_time(now)
    try:
        value = find(image, path.removeprefix(f"{IMAGE}."))
    except RuleNotEvaluated:
        return ABSENT
    if isinstance(value, list):
        return pluralize(len(value), "element")
    if isinstance(value, dict):
        return "present"
    return render_time(value) if isinstance(value, datetime) else str(value)
