"""What proposed policies, waivers and VEX documents would change: they and the current ones judge stored facts.

Nothing is read from the registry, scanned or signed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache, cached_property

from pydantic import AwareDatetime, Field

from supply_chain.errors import DeclarationInvalid, PolicyInvalid, RuleNotEvaluated, SettingInvalid
from supply_chain.fleet.gate_facts import (
    FactsStore,
    GateSubject,
    Requirements,
    StoredFacts,
    compute_facts_version,
)
from supply_chain.model.declaration import Classification
from supply_chain.model.image import Digest, Model
from supply_chain.model.tier import Gate
from supply_chain.policy.expressions import Values
from supply_chain.policy.fact_values import join_decisions
from supply_chain.policy.gate import SharedResults, judge
from supply_chain.policy.names import MinimumClassification
from supply_chain.policy.outcome import Reason, RuleOutcome, RuleResult
from supply_chain.policy.people import People
from supply_chain.policy.policies import Policies
from supply_chain.policy.waivers import Waiver

NOTES = (RuleOutcome.WARNED, RuleOutcome.WAIVED, RuleOutcome.OVERRIDDEN)
"""The outcomes of rules that a verdict only notes."""
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
    running: tuple[str, ...] = Field(default=(), description="the environments in which the image should run")
    effect: Effect
    new_reasons: tuple[Reason, ...] = Field(description=f"reasons of the proposed policies alone, at most {LISTED}")
    removed_reasons: tuple[Reason, ...] = Field(description=f"reasons of the current policies alone, at most {LISTED}")
    omitted_reasons: int = Field(description="number of reasons that are left out")


class NotJudged(Model):
    """An image or deployment of which a preview does not know whether it changes."""

    subject: GateSubject
    why: str


class PolicyPreview(Model):
    """What proposed policies, waivers and VEX documents would change if they were the project's."""

    at: AwareDatetime
    policies: tuple[str, ...] = Field(description="the proposed policies that are new or different")
    decisions: tuple[str, ...] = Field(
        default=(),
        description="the proposed waivers and VEX documents: as if who had signed them, or why without effect",
    )
    gates: tuple[Gate, ...] = Field(description="the gates that decide by something else")
    judged: int = Field(description="number of images and deployments that both judged")
    changes: tuple[PolicyChange, ...]
    not_judged: tuple[NotJudged, ...]


Result = PolicyChange | NotJudged | None
"""The result for one subject; None if nothing changes."""
Results = tuple[RuleResult, ...]


@dataclass(frozen=True)
class Comparison:
    """Current and proposed policies with their waivers and VEX, which judge the same facts at the same time."""

    current: Policies
    proposed: Policies
    now: datetime
    decisions: tuple[str, ...] = ()
    """A sentence about each proposed waiver and VEX document."""

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates that decide by other policies, waivers or VEX documents."""
        same = {gate for gate in self._alike if _digests(self.current, gate) == _digests(self.proposed, gate)}
        return tuple(gate for gate in Gate if gate not in same)

    @cached_property
    def _alike(self) -> frozenset[Gate]:
        """The gates at which the same waivers and statements of issuers count."""
        return frozenset(gate for gate in Gate if _decisions(self.current, gate) == _decisions(self.proposed, gate))

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies that are new or different, with their versions."""
        return tuple(_describe_changes(self.current, self.proposed))

    def judge(self, facts: StoredFacts) -> Result:
        """Return what the proposed policies change for a subject; where it runs is not stated."""
        gate, outcomes = facts.subject.gate, list[Results]()
        before = join_decisions(facts.values, self.current.select_gate(gate), self.now)
        after = (
            before if gate in self._alike else join_decisions(facts.values, self.proposed.select_gate(gate), self.now)
        )
        readers = self.current.select_gate(gate).readers | self.proposed.select_gate(gate).readers
        shared = SharedResults(Values.of(gate, before, self.now, readers))
        other = shared if after == before else SharedResults(Values.of(gate, after, self.now, readers))
        for name, policies, results in (("current", self.current, shared), ("proposed", self.proposed, other)):
            try:
                outcomes.append(judge(results.values.image, policies.select_gate(gate), self.now, results))
            except (PolicyInvalid, RuleNotEvaluated) as error:
                return NotJudged(subject=facts.subject, why=f"The {name} policies cannot judge it: {error.message}")
        return _compare(facts.subject, *outcomes)


def _digests(policies: Policies, gate: Gate) -> set[str]:
    return {each.digest for each in policies.select_gate(gate).policies}


def _decisions(policies: Policies, gate: Gate) -> tuple[frozenset[Waiver], str]:
    """Return what differs if other waivers or statements count at a gate."""
    of = policies.select_gate(gate)
    return frozenset(of.waivers), of.vex.version


def _describe_changes(current: Policies, proposed: Policies) -> Iterator[str]:
    old, new = (
        {each.document.name: each for gate in Gate for each in of.select_gate(gate).policies}
        for of in (current, proposed)
    )
    for name, policy in new.items():
        if name not in old:
            yield f"{policy} (new)"
        elif policy.digest != old[name].digest:
            before, after = old[name].document.version, policy.document.version
            yield f"{policy} (changed)" if before == after else f"{name} {before} → {after}"


def _compare(subject: GateSubject, before: Results, after: Results) -> PolicyChange | None:
    old, new = _reasons(before, RuleOutcome.REFUSED), _reasons(after, RuleOutcome.REFUSED)
    if bool(old) is not bool(new):
        effect = Effect.REFUSED if new else Effect.ADMITTED
    elif old.keys() != new.keys():
        effect = Effect.REASONS
    else:
        old, new = _reasons(before, *NOTES), _reasons(after, *NOTES)
        if old.keys() == new.keys():
            return None
        effect = Effect.NOTES
    added, removed = [each for each in new if each not in old], [each for each in old if each not in new]
    return PolicyChange(
        subject=subject,
        effect=effect,
        new_reasons=tuple(added[:LISTED]),
        removed_reasons=tuple(removed[:LISTED]),
        omitted_reasons=len(added[LISTED:]) + len(removed[LISTED:]),
    )


def _reasons(results: Iterable[RuleResult], *outcomes: RuleOutcome) -> dict[Reason, None]:
    """Return the reasons of the rules with one of these outcomes, in order."""
    return dict.fromkeys(reason for each in results if each.result in outcomes for reason in each.reasons)


FactVersions = Mapping[GateSubject, str]
"""Subject → the version of its facts."""


def judge_stored(inventory: FactsStore, versions: FactVersions, comparison: Comparison) -> dict[GateSubject, Result]:
    """Return the results of these subjects, but for those whose facts have another version by now."""
    stored = inventory.read_facts(versions)
    return {each.subject: comparison.judge(each) for each in stored if each.version == versions[each.subject]}


def preview(
    inventory: FactsStore,
    comparison: Comparison,
    requirements: Requirements,
    people: People,
    minimum_classification: MinimumClassification,
    judge_all: Callable[[FactVersions], Mapping[GateSubject, Result]] | None = None,
) -> PolicyPreview:
    """Judge every image and every deployment by current and proposed policies, and return what differs.

    `people` are those of the project, with its issuers.

    Facts that are missing, or that other code or another document of the project made, are not judged.
    `judge_all` does what `judge_stored` does, which judges one after the other.
    """
    states, gates = inventory.list_subjects(), comparison.gates
    running: dict[tuple[str, Digest], list[str]] = defaultdict(list)
    for state in states:
        if state.subject.environment:
            running[_identify(state.subject)].append(state.subject.environment)
    selected = {state.subject: state.version for state in states if state.subject.gate in gates}
    not_judged = {each.subject: each for each in _find_outdated(selected, requirements, people, minimum_classification)}
    versions = {subject: version for subject, version in selected.items() if subject not in not_judged}
    results = judge_all(versions) if judge_all else judge_stored(inventory, versions, comparison)
    answers = [results.get(each, NotJudged(subject=each, why=OUTDATED)) for each in versions]
    failed = [each for each in answers if isinstance(each, NotJudged)]
    changes = (each for each in answers if isinstance(each, PolicyChange))
    return PolicyPreview(
        at=comparison.now,
        policies=comparison.policies,
        decisions=comparison.decisions,
        gates=gates,
        judged=len(answers) - len(failed),
        changes=tuple(each.model_copy(update={"running": tuple(running[_identify(each.subject)])}) for each in changes),
        not_judged=(*not_judged.values(), *failed),
    )


def _identify(subject: GateSubject) -> tuple[str, Digest]:
    """Return what an image has in every repository: its application and its digest."""
    return subject.image.application, subject.image.digest


def _find_outdated(
    stored: Mapping[GateSubject, str],
    requirements: Requirements,
    people: People,
    minimum_classification: MinimumClassification,
) -> Iterator[NotJudged]:
    """Yield the subjects whose facts are missing or of another version than this process would read."""

    @cache
    def version_in(environment: str, minimum: Classification | None) -> str | DeclarationInvalid | SettingInvalid:
        try:
            return compute_facts_version(environment, requirements, people, minimum)
        except (DeclarationInvalid, SettingInvalid) as error:
            return error

    minimum_of = cache(minimum_classification)
    for subject, version in stored.items():
        expected = version_in(subject.environment, minimum_of(subject.image.application))
        if not isinstance(expected, str):
            yield NotJudged(subject=subject, why=expected.message)
        elif version != expected:
            yield NotJudged(subject=subject, why=OUTDATED)
