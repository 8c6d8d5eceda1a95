"""Rules that only warn until their `effective_on`: which of them refuse soon, and the policies as they are then."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime

from supply_chain.model.image import Model
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import RuleDocument, RuleSeverity
from supply_chain.policy.policies import Policies


class UpcomingRule(Model):
    """A rule that begins to refuse."""

    rule: str
    policy: str
    gates: tuple[Gate, ...]
    effective_on: AwareDatetime


def find_upcoming(policies: Policies, now: datetime, until: datetime) -> tuple[UpcomingRule, ...]:
    """Return the rules that begin to refuse after `now` and not after `until`, the first to do so first."""
    upcoming = [
        UpcomingRule(rule=rule.id, policy=document.name, gates=document.gates, effective_on=start)
        for document in policies.documents
        for each in document.rules
        if (start := _find_start(each, now, until))
        for rule in each.expand()
    ]
    return tuple(sorted(upcoming, key=lambda each: each.effective_on))


def enforce_upcoming(policies: Policies, now: datetime, until: datetime) -> dict[str, str]:
    """Return the file name and the text of each policy with such rules, as a proposal in which these rules refuse."""
    return {
        f"{document.name}.yaml": document.model_copy(
            update={"rules": tuple(_enforce(each, now, until) for each in document.rules)}
        ).model_dump_json()
        for document in policies.documents
        if any(_find_start(each, now, until) for each in document.rules)
    }


def _find_start(rule: RuleDocument, now: datetime, until: datetime) -> datetime | None:
    """Return when a rule begins to refuse; None if it does so in another period, or never."""
    start = rule.effective_on if rule.severity is RuleSeverity.DENY else None
    return start if start is not None and now < start <= until else None


def _enforce(rule: RuleDocument, now: datetime, until: datetime) -> RuleDocument:
    return rule.model_copy(update={"effective_on": None}) if _find_start(rule, now, until) else rule
