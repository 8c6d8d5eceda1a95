"""When a verdict ends: with the first of the decisions that it rests on, and with the list of people who took them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from supply_chain.policy.documents import Severity
from supply_chain.policy.fact_types import VexFacts
from supply_chain.policy.outcome import RuleOutcome, RuleResult, break_glass_of, waivers_of
from supply_chain.policy.policies import GatePolicy

APPROVERS = {"image.approvers", "image.independent_approvers"}
"""The facts that people's signed approvals are read into."""


def find_end(
    image: Mapping[str, Any], results: Sequence[RuleResult], policy: GatePolicy[Any], now: datetime
) -> datetime | None:
    """Return when the results of all rules end that read an image's facts; None if they rest on no person's decision.

    Decisions are the waivers and the break-glass that were used, signed approvals that a rule counts, and what issuers
    state about findings that do not count. None of them counts once people.yaml has expired.
    """
    waivers, break_glass, stated = waivers_of(results), break_glass_of(results), list(_accepted_statements(image))
    ends = [*(each.expires for each in waivers), *(each["until"] for each in stated if "until" in each)]
    ends += [break_glass.expires] if break_glass else []
    if policy.people.expires and (ends or stated or _counts_approvals(image, results, policy, now)):
        ends.append(policy.people.expires)
    return min(ends, default=None)


def _accepted_statements(image: Mapping[str, Any]) -> Iterator[VexFacts]:
    """Yield what issuers state about the findings that do not count because of it."""
    findings: Iterable[Mapping[str, Any]] = image["scan"]["findings"] if "scan" in image else ()
    yield from (each["vex"] for each in findings if "vex" in each and each["vex"]["accepted"])


def _counts_approvals(
    image: Mapping[str, Any], results: Iterable[RuleResult], policy: GatePolicy[Any], now: datetime
) -> bool:
    """Return whether a rule holds because people approved with keys of their own."""
    passed = {each.rule for each in results if each.result is RuleOutcome.PASSED}
    counting = (rule for rule in policy.rules if not APPROVERS.isdisjoint(rule.reads))
    return bool(image.get("approvers")) and any(
        rule.id in passed and rule.severity(now) is Severity.DENY for rule in counting
    )
