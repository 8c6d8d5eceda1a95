"""When a verdict ends: with the first of the decisions that it rests on, and with the list of people who took them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from supply_chain.evidence.image_status import LifecycleDecision
from supply_chain.policy.documents import RuleSeverity
from supply_chain.policy.fact_types import VerdictFacts, VexFacts
from supply_chain.policy.outcome import RuleOutcome, RuleResult, find_used_break_glass, list_used_waivers
from supply_chain.policy.policies import REVIEWERS, GatePolicy, Rule
from supply_chain.policy.vex import SCANS

APPROVERS = {"image.approvers", "image.independent_approvers"}
"""The facts that people's signed approvals are read into."""
REVIEWED = {f"image.build.{REVIEWERS}"}
"""The fact that people's signed reviews are read into."""
VERIFIED_LEVEL = {"image.build.level", "image.build.level_builder"}
"""The facts that the provenance of trusted builders is read into."""
ACCEPTED = (RuleOutcome.WAIVED, RuleOutcome.OVERRIDDEN)
"""The results of a rule that would refuse the image without a person's decision, which ends itself."""


def find_end(
    image: Mapping[str, Any],
    results: Sequence[RuleResult],
    unblock: LifecycleDecision | None,
    policy: GatePolicy[Any],
    now: datetime,
) -> datetime | None:
    """Return when the results of the rules about an image end; None if they rest on no person's decision.

    Decisions are the waivers and the break-glass that were used, signed approvals and reviews that a rule counts, a
    build level of a trusted builder that a rule reads, what issuers state about findings that do not count, and
    `unblock`, which ended a block of the image. None of them counts once people.yaml has expired; for `unblock`, this
    applies only if it is signed. An admission by an earlier gate has its own end; the waivers that it rests on do not
    count after today's people.yaml has expired.
    """
    waivers, break_glass, stated = (
        list_used_waivers(results),
        find_used_break_glass(results),
        list(_accepted_statements(image)),
    )
    ends = [*(each.expires for each in waivers), *(each["until"] for each in stated if "until" in each)]
    ends += [break_glass.expires] if break_glass else []
    lifted = unblock is not None and bool(unblock.signature)
    earlier = any(each["waivers"] for each in image.get("verdicts", {}).values())
    if policy.people.expires and (
        ends or stated or lifted or earlier or _counts_people(image, results, policy, policy.people.expires)
    ):
        ends.append(policy.people.expires)
    return min([*ends, *_ends_of_earlier_admissions(image, results, policy, now)], default=None)


def _ends_of_earlier_admissions(
    image: Mapping[str, Any], results: Iterable[RuleResult], policy: GatePolicy[Any], now: datetime
) -> Iterator[datetime]:
    """Yield the ends of admissions by earlier gates, including past ones.

    Leaves out an ended admission if a rule refuses the image because of it, or if a waiver or break-glass accepts that.
    """
    breaking = {each.rule for each in results if each.result in (*ACCEPTED, RuleOutcome.REFUSED)}
    reads = {path for rule in policy.rules if rule.id in breaking for path in rule.reads}
    verdicts: Mapping[str, VerdictFacts] = image.get("verdicts", {})
    for gate, verdict in verdicts.items():
        end = verdict.get("expires")
        if verdict["passed"] and end and (now < end or f"image.verdicts.{gate}.expires" not in reads):
            yield end


def _accepted_statements(image: Mapping[str, Any]) -> Iterator[VexFacts]:
    """Yield what issuers state about the findings that do not count because of it."""
    findings = (each for scan in SCANS if scan in image for each in image[scan]["findings"])
    yield from (each["vex"] for each in findings if "vex" in each and each["vex"]["accepted"])


def _counts_people(
    image: Mapping[str, Any], results: Iterable[RuleResult], policy: GatePolicy[Any], at: datetime
) -> bool:
    """Return whether a rule that denies at `at` passes, or does not apply, because of what people.yaml lets count.

    These are people's approvals and reviews, and the provenance of trusted builders.
    """
    build = image.get("build", {})
    approved = APPROVERS if image.get("approvers") else set()
    verified = VERIFIED_LEVEL if "level_builder" in build else set()
    signed = approved | verified | (REVIEWED if build.get(REVIEWERS) else set())
    outcomes = {each.rule: each.result for each in results}
    denying = (rule for rule in policy.rules if rule.severity(at) is RuleSeverity.DENY)
    return any(not signed.isdisjoint(_deciding(rule, outcomes.get(rule.id))) for rule in denying)


def _deciding(rule: Rule, result: RuleOutcome | None) -> Iterable[str]:
    """Return the facts because of which a rule does not refuse; none if it refuses, or did not judge."""
    if result is RuleOutcome.PASSED:
        return rule.reads
    return rule.when.reads if rule.when and result is RuleOutcome.NOT_APPLICABLE else ()
