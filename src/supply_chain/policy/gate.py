"""The gates: `evaluate` applies every policy that selects an image, and collects every reason to refuse it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from supply_chain.errors import PolicyInvalid
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.summary import Named, RefusedRule
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import RuleSeverity
from supply_chain.policy.ends import REVIEWED, find_end
from supply_chain.policy.expressions import Values
from supply_chain.policy.fact_types import BreakGlassFacts, NameConflictFacts
from supply_chain.policy.fact_values import apply_waivers, join_fact_values
from supply_chain.policy.facts import F, IntakeFacts
from supply_chain.policy.outcome import (
    Admitted,
    Refused,
    RuleOutcome,
    RuleResult,
    Unjudged,
    UsedBreakGlass,
    UsedWaiver,
)
from supply_chain.policy.overrides import name_overrides
from supply_chain.policy.policies import Deciding, GatePolicy, Policy, Reasons, Rule
from supply_chain.policy.refused_findings import digest_findings, find_refused_findings
from supply_chain.policy.refused_rules import describe_waiver, find_refused_rules
from supply_chain.policy.waivers import Waiver, make_waiver_facts, waive_rule

NAME_TAKEN = "name.taken"
"""The rule that development applies before it builds."""


def evaluate(facts: F, policy: GatePolicy[F], now: datetime) -> Admitted[F] | Refused:
    """Apply every rule to the facts and return the verdict with every reason. Pure.

    Raise `RuleNotEvaluated` if a rule cannot be evaluated: then nobody knows whether it holds.
    """
    image = join_fact_values(facts, policy, now)
    results = judge(image, policy, now)
    expires = find_end(image, results, facts.status.unblock, policy, now)
    reasons = tuple(reason for each in results if each.result is RuleOutcome.REFUSED for reason in each.reasons)
    notes = tuple(note for each in results for note in _notes(each))
    reviews = _find_reviews(image, results, policy)
    if reasons:
        return Refused(
            image=facts.ref, gate=policy.gate, policy=policy.digest, reasons=reasons, notes=notes, results=results,
            refused_rules=find_refused_rules(results, policy, facts), expires=expires, reviews=reviews,
        )  # fmt: skip
    ends = filter(None, (expires, _find_later_end(facts, results, policy)))
    return Admitted(
        facts=facts, gate=policy.gate, policy=policy.digest, notes=notes, results=results,
        expires=min(ends, default=None), reviews=reviews, levels=_levels(image),
    )  # fmt: skip


def _levels(image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the levels that a verdict states, one per SLSA track; none without a build."""
    return (image["build"]["level"],) if "build" in image else ()


def _find_later_end(facts: F, results: Iterable[RuleResult], policy: GatePolicy[F]) -> datetime | None:
    """Return when an admission ends because a rule that only warned refuses the image; None if it does not.

    If a waiver accepts by then what the rule warns about, the admission ends with the waiver.
    """
    warning = {each.rule for each in results if each.result is RuleOutcome.WARNED}
    rules = (rule.document for rule in policy.rules if rule.id in warning)
    starts = [each.effective_on for each in rules if each.effective_on and each.severity is RuleSeverity.DENY]
    if not starts:
        return None
    later = evaluate(facts, policy, min(starts))
    return min(starts) if isinstance(later, Refused) else later.expires


def _find_reviews(
    image: Mapping[str, Any], results: Iterable[RuleResult], policy: GatePolicy[Any]
) -> tuple[Named, ...]:
    """Return the reviews that count for a build; none if no rule that judged the image reads them."""
    judged = {each.rule for each in results}
    reading = (rule for rule in policy.rules if rule.id in judged and not REVIEWED.isdisjoint(rule.reads))
    if "build" not in image or next(reading, None) is None:
        return ()
    return tuple(each.named for each in policy.reviews.find_counted(image["build"]))


@dataclass(frozen=True)
class SharedResults:
    """What several policies share that judge the same image at the same time."""

    values: Values
    reasons: dict[Deciding, Reasons] = field(default_factory=dict)
    """What decides of a rule → its reasons, without waivers."""

    def judge(self, policy: Policy) -> Iterator[tuple[Rule, RuleResult]]:
        """Yield the rules of a policy with their results; a rule that decides alike is not evaluated again."""
        name = str(policy)
        for rule in policy.rules:
            if rule.deciding not in self.reasons:
                self.reasons[rule.deciding] = rule.reasons(self.values)
            yield rule, _result(rule, name, self.reasons[rule.deciding], self.values.now)


def judge(
    image: Mapping[str, Any], policy: GatePolicy[Any], now: datetime, shared: SharedResults | None = None
) -> tuple[RuleResult, ...]:
    """Return the result of every rule of the policies that select an image; raise `PolicyInvalid` if none does.

    Waivers count only if a rule refuses the image without them. Then the verdict rests on all that accept a finding of
    the image. A rule that nobody may waive sees none. A break-glass overrides what refuses the image after that.
    `shared` are the values of this image at this time, and what others have judged of it.
    """
    shared = shared or SharedResults(Values.of(policy.gate, image, now, policy.readers))
    results = (judged for each in _selected(image, policy) for judged in shared.judge(each))
    return _apply_decisions(results, shared.values, policy)


def judge_partly(
    image: Mapping[str, Any], facts: type, policy: GatePolicy[Any], now: datetime
) -> tuple[RuleResult | Unjudged, ...]:
    """Return the result of every rule that reads only facts of this type, and what the other rules need.

    `image` has all facts of the type `facts`. Raise as `judge`.
    """
    values = Values.of(policy.gate, image, now, policy.readers)
    rules = [
        (rule, str(each), rule.list_missing_facts(facts)) for each in _selected(image, policy) for rule in each.rules
    ]
    judged = ((rule, _result(rule, name, rule.reasons(values), now)) for rule, name, needs in rules if not needs)
    results = iter(_apply_decisions(judged, values, policy))
    return tuple(
        Unjudged(rule=rule.id, policy=name, needs=needs) if needs else next(results) for rule, name, needs in rules
    )


def _selected(image: Mapping[str, Any], policy: GatePolicy[Any]) -> Sequence[Policy]:
    selected = [each for each in policy.policies if each.selects(image)]
    if not selected:
        raise PolicyInvalid(
            f"No policy of the {policy.gate} gate selects {image['application']}.\n"
            "Write one that does: an image that no policy judges is not admitted."
        )
    return selected


class _Waived(NamedTuple):
    """What an image looks like with its waivers."""

    values: Values
    """The facts that the refusing rules read, with the waivers of findings."""
    accepting: Sequence[Waiver]
    """The waivers that accept findings."""
    waivers: Sequence[Waiver]
    """All that cover the image."""


def _apply_decisions(
    results: Iterable[tuple[Rule, RuleResult]], values: Values, policy: GatePolicy[Any]
) -> tuple[RuleResult, ...]:
    """Return the results of rules, with the waivers and the break-glass where one refuses the image."""
    judged = _apply_waivers(results, values, policy)
    if policy.gate is Gate.DEPLOY:
        uses = _list_break_glass(values)
        return tuple(_override(*each, uses) for each in judged)
    return tuple(_with_findings(*each) for each in judged)


def _with_findings(rule: Rule, result: RuleResult, values: Values) -> RuleResult:
    """Return the result of a rule, if it refuses the image with the digest of all findings that it refuses it for.

    A break-glass at the deploy gate names the digest next to the reason.
    """
    findings = digest_findings(rule, values) if result.result is RuleOutcome.REFUSED else None
    return result if findings is None else result.model_copy(update={"findings": findings})


def _apply_waivers(
    results: Iterable[tuple[Rule, RuleResult]], values: Values, policy: GatePolicy[Any]
) -> Iterator[tuple[Rule, RuleResult, Values]]:
    """Yield each rule with its result and what it was judged by, with the waivers where it refuses the image."""
    judged = tuple(results)
    refusing = {rule.id: rule for rule, each in judged if each.result is RuleOutcome.REFUSED and rule.document.waivable}
    waived = _find_waivers(values, policy, refusing.values()) if policy.waivers and refusing else None
    for rule, each in judged:
        if waived and rule.id in refusing:
            yield rule, _waive(rule, each, waived), waived.values
        else:
            yield rule, each, values


def _find_waivers(values: Values, policy: GatePolicy[Any], refusing: Iterable[Rule]) -> _Waived:
    waivers = [each for each in policy.waivers if each.covers(values.image, values.now)]
    image, accepting = apply_waivers(values.image, waivers)
    reads = [path for rule in refusing for path in rule.facts_where_it_applies]
    return _Waived(values.with_image(image, reads, policy.readers), accepting, waivers)


def _waive(rule: Rule, result: RuleResult, waived: _Waived) -> RuleResult:
    """Return the result of a rule that refuses, with the waivers. To what it applies does not depend on them.

    Without a waiver that accepts a finding, the facts are the same, and so are the reasons.
    """
    reasons = rule.list_unconditional_reasons(waived.values) if waived.accepting else result.reasons
    if not reasons:
        return _with_waivers(result, waived.accepting)
    naming = [each for each in waived.waivers if rule.id in each.document.rules]
    severities = {each["severity"] for each in find_refused_findings(rule, waived.values)} if naming else set[str]()
    if (waiver := waive_rule(naming, severities)) is not None:
        return _with_waivers(result, [waiver])
    return result.model_copy(update={"reasons": reasons})


def _with_waivers(result: RuleResult, waivers: Sequence[Waiver]) -> RuleResult:
    used = tuple(UsedWaiver.model_validate(make_waiver_facts(each)) for each in waivers)
    return result.model_copy(update={"result": RuleOutcome.WAIVED, "waivers": used})


def _list_break_glass(values: Values) -> Sequence[BreakGlassFacts]:
    """Return each break-glass that is in effect now, the one that lasts longest first."""
    uses: Iterable[BreakGlassFacts] = values.image["break_glass"]
    now = [each for each in uses if each["at"] <= values.now + SKEW and values.now < each["expires"]]
    return sorted(now, key=lambda each: (each["expires"], each["at"], each["by"]), reverse=True)


def _override(rule: Rule, result: RuleResult, values: Values, uses: Sequence[BreakGlassFacts]) -> RuleResult:
    """Return the result of a rule, with the first break-glass that was signed for all that it refuses."""
    if result.result is not RuleOutcome.REFUSED or not rule.document.break_glass or not uses:
        return result
    refused = name_overrides(rule, values)
    use = next((each for each in uses if refused.issubset(each["overrides"])), None)
    if use is None:
        return result
    break_glass = UsedBreakGlass(by=use["by"], reason=use["reason"], expires=use["expires"])
    return result.model_copy(update={"result": RuleOutcome.OVERRIDDEN, "break_glass": break_glass})


def list_overrides(facts: F, policy: GatePolicy[F], now: datetime) -> tuple[str, ...]:
    """Return all that refuses an image, sorted, as a break-glass has to name it (`name_overrides`).

    Waivers count. Raise as `evaluate`.
    """
    image = join_fact_values(facts, policy, now)
    shared = SharedResults(Values.of(policy.gate, image, now, policy.readers))
    results = (judged for each in _selected(image, policy) for judged in shared.judge(each))
    judged = _apply_waivers(results, shared.values, policy)
    refusing = ((rule, values) for rule, each, values in judged if each.result is RuleOutcome.REFUSED)
    return tuple(sorted({name for rule, values in refusing for name in name_overrides(rule, values)}))


def refuse_name(conflict: NameConflictFacts, policy: GatePolicy[IntakeFacts], now: datetime) -> Refused | None:
    """Return the intake gate's refusal of a name that belongs to another source, before anything is built.

    Return None if no rule of the gate refuses it.
    """
    values = Values.of(policy.gate, {"name_conflict": conflict}, now)
    rules = ((str(each), rule) for each in policy.policies for rule in each.rules if rule.id == NAME_TAKEN)
    denying = ((name, rule) for name, rule in rules if rule.severity(now) is RuleSeverity.DENY)
    refused = [(name, rule, reasons) for name, rule in denying if (reasons := rule.reasons(values))]
    if not refused:
        return None
    return Refused(
        image=None, application=conflict["name"], gate=policy.gate, policy=policy.digest,
        reasons=tuple(reason for *_, reasons in refused for reason in reasons),
        refused_rules=tuple(
            RefusedRule(rule=rule.id, policy=name, evidence=(), waiver=describe_waiver(rule.document))
            for name, rule, _ in refused
        ),
    )  # fmt: skip


def _notes(result: RuleResult) -> Iterator[str]:
    if result.result is RuleOutcome.WARNED:
        yield from (reason.fact for reason in result.reasons)
    if result.result is RuleOutcome.WAIVED:
        waivers = "; ".join(map(str, result.waivers))
        yield from (f"{reason.code} is waived: {reason.fact} (waiver {waivers})" for reason in result.reasons)
    if result.break_glass is not None:
        end = f"break-glass {result.break_glass}"
        yield from (f"{reason.code} is overridden: {reason.fact} ({end})" for reason in result.reasons)


def _result(rule: Rule, policy: str, reasons: Reasons, now: datetime) -> RuleResult:
    if not reasons:
        return _result_without_reasons(
            rule.id, policy, RuleOutcome.NOT_APPLICABLE if reasons is None else RuleOutcome.PASSED
        )
    result = RuleOutcome.REFUSED if rule.severity(now) is RuleSeverity.DENY else RuleOutcome.WARNED
    return RuleResult(rule=rule.id, policy=policy, result=result, reasons=reasons)


@cache
def _result_without_reasons(rule: str, policy: str, result: RuleOutcome) -> RuleResult:
    """Return the result of a rule that holds or does not apply: nearly all are, and equal for every image."""
    return RuleResult(rule=rule, policy=policy, result=result)
