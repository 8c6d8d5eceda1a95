"""What proposed policies would change: they and the current ones judge the facts that the inventory stores.

Nothing is read from the registry, scanned or signed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache

from pydantic import AwareDatetime, Field

from supply_chain.errors import PolicyInvalid, RuleNotEvaluated, SettingInvalid
from supply_chain.fleet.gate_facts import FactsStore, GateSubject, Requirements, StoredFacts, facts_version
from supply_chain.model.image import ImageRef, Model
from supply_chain.model.tier import Gate
from supply_chain.policy.expressions import Values
from supply_chain.policy.gate import judge_values
from supply_chain.policy.outcome import Reason, RuleOutcome, RuleResult
from supply_chain.policy.policies import Policies

LISTED = 10
"""Number of reasons of one image that are named one by one."""
OUTDATED = "Its facts are missing or outdated: run `cscm inventory`."


class Effect(StrEnum):
    """What proposed policies change for an image."""

    REFUSED = "admitted → refused"
    ADMITTED = "refused → admitted"
    REASONS = "refused for other reasons"
    NOTES = "admitted or refused as before, with other notes"


class PolicyChange(Model):
    """What proposed policies change for an image at a gate."""

    subject: GateSubject
    running: tuple[str, ...] = Field(description="the environments in which the image should run")
    effect: Effect
    gained: tuple[Reason, ...] = Field(description=f"reasons of the proposed policies alone, at most {LISTED}")
    lost: tuple[Reason, ...] = Field(description=f"reasons of the current policies alone, at most {LISTED}")
    more: int = Field(description="number of reasons that are left out")


class NotJudged(Model):
    """An image or deployment of which a preview does not know whether it changes."""

    subject: GateSubject
    why: str


class PolicyPreview(Model):
    """What proposed policies would change if they were the project's."""

    at: AwareDatetime
    policies: tuple[str, ...] = Field(description="the proposed policies that are new or different")
    gates: tuple[Gate, ...] = Field(
        description="the gates whose policies are different; of the intake gate, nothing is stored and judged"
    )
    judged: int = Field(description="number of images and deployments that both judged")
    changes: tuple[PolicyChange, ...]
    not_judged: tuple[NotJudged, ...]


def preview(
    inventory: FactsStore, current: Policies, proposed: Policies, requirements: Requirements, now: datetime
) -> PolicyPreview:
    """Judge every image and every deployment by current and proposed policies, and return what differs.

    Facts that are missing, or that other code or another document of the environment made, are not judged.
    """
    gates = tuple(gate for gate in Gate if _digests(current, gate) != _digests(proposed, gate))
    states = inventory.list_subjects()
    running: dict[ImageRef, list[str]] = defaultdict(list)
    for state in states:
        if state.subject.environment:
            running[state.subject.image].append(state.subject.environment)
    asked = {state.subject: state.version for state in states if state.subject.gate in gates}
    not_judged = {each.subject: each for each in _find_outdated(asked, requirements)}
    left = dict.fromkeys(subject for subject in asked if subject not in not_judged)
    changes, judged = list[PolicyChange](), 0
    for facts in inventory.read_facts(left):
        subject = facts.subject
        if facts.version != asked[subject]:
            continue  # it was replaced meanwhile
        del left[subject]
        found = _judge(facts, current, proposed, now)
        if isinstance(found, NotJudged):
            not_judged[subject] = found
            continue
        judged += 1
        if change := _compare(subject, running[subject.image], *found):
            changes.append(change)
    not_judged |= {subject: NotJudged(subject=subject, why=OUTDATED) for subject in left}
    return PolicyPreview(
        at=now,
        policies=tuple(_describe_changes(current, proposed)),
        gates=gates,
        judged=judged,
        changes=tuple(changes),
        not_judged=tuple(not_judged.values()),
    )


def _digests(policies: Policies, gate: Gate) -> set[str]:
    return {each.digest for each in policies.at(gate).policies}


def _find_outdated(stored: Mapping[GateSubject, str], requirements: Requirements) -> Iterator[NotJudged]:
    """Yield the subjects whose facts are missing or of another version than this process would read."""

    @cache
    def version_in(environment: str) -> str | SettingInvalid:
        subject = next(each for each in stored if each.environment == environment)
        try:
            return facts_version(subject, requirements)
        except SettingInvalid as error:
            return error

    for subject, version in stored.items():
        expected = version_in(subject.environment)
        if isinstance(expected, SettingInvalid):
            yield NotJudged(subject=subject, why=expected.message)
        elif version != expected:
            yield NotJudged(subject=subject, why=OUTDATED)


Results = tuple[RuleResult, ...]


def _judge(
    facts: StoredFacts, current: Policies, proposed: Policies, now: datetime
) -> tuple[Results, Results] | NotJudged:
    """Return the results of the current and of the proposed rules."""
    gate, found = facts.subject.gate, list[Results]()
    values = Values.of(gate, facts.values, now)
    for name, policies in (("current", current), ("proposed", proposed)):
        try:
            found.append(judge_values(values, policies.at(gate)))
        except (PolicyInvalid, RuleNotEvaluated) as error:
            return NotJudged(subject=facts.subject, why=f"The {name} policies cannot judge it: {error.message}")
    before, after = found
    return before, after


def _compare(subject: GateSubject, running: Sequence[str], before: Results, after: Results) -> PolicyChange | None:
    """Return what differs; None if nothing does."""
    old, new = _reasons(before, RuleOutcome.REFUSED), _reasons(after, RuleOutcome.REFUSED)
    if bool(old) is not bool(new):
        effect = Effect.REFUSED if new else Effect.ADMITTED
    elif old.keys() != new.keys():
        effect = Effect.REASONS
    else:
        old, new = _reasons(before, RuleOutcome.WARNED), _reasons(after, RuleOutcome.WARNED)
        if old.keys() == new.keys():
            return None
        effect = Effect.NOTES
    gained, lost = [each for each in new if each not in old], [each for each in old if each not in new]
    return PolicyChange(
        subject=subject,
        running=tuple(running),
        effect=effect,
        gained=tuple(gained[:LISTED]),
        lost=tuple(lost[:LISTED]),
        more=len(gained[LISTED:]) + len(lost[LISTED:]),
    )


def _reasons(results: Iterable[RuleResult], outcome: RuleOutcome) -> dict[Reason, None]:
    """Return the reasons of the rules with an outcome, in order."""
    return dict.fromkeys(reason for each in results if each.result is outcome for reason in each.reasons)


def _describe_changes(current: Policies, proposed: Policies) -> Iterator[str]:
    """Yield the name of each policy that is new or different, with its version."""
    old, new = (
        {each.document.name: each for gate in Gate for each in of.at(gate).policies} for of in (current, proposed)
    )
    for name, policy in new.items():
        if name not in old:
            yield f"{policy} (new)"
        elif policy.digest != old[name].digest:
            before, after = old[name].document.version, policy.document.version
            yield f"{policy} (changed)" if before == after else f"{name} {before} → {after}"
