"""Waivers of rules that have no effect, because the rules refuse worse findings than their signer may accept."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import Any

from supply_chain.errors import RuleNotEvaluated
from supply_chain.model.tier import Gate
from supply_chain.policy.expressions import IMAGE, Values
from supply_chain.policy.policies import Loop, Policies, Rule
from supply_chain.policy.refused_findings import find_scans
from supply_chain.policy.waivers import Waiver, WaiverReport, Waivers, WaiverState
from supply_chain.vulnerability.findings import Severity

COUNTS = (1, 1_000_000)
"""Numbers of findings of a severity with which a rule is asked whether it refuses them."""
ANY = frozenset(Severity)


def explain_limits(waivers: Waivers, policies: Policies, now: datetime) -> Waivers:
    """Return the waivers, with reports that say where the severity that a signer may accept stops a waiver of rules.

    A waiver is reported as inert if each of its rules refuses an image only for findings that its signer may not
    accept. Which waivers the gates apply does not change.
    """
    limited = {each.name: each for each in waivers.valid if each.document.rules and _list_unaccepted(each)}
    reports = (
        _explain(each, limited[each.name], policies, now) if each.name in limited else each for each in waivers.reports
    )
    return replace(waivers, reports=tuple(reports))


def _list_unaccepted(waiver: Waiver) -> Set[Severity]:
    """Return the severities that the signer of a waiver may not accept."""
    return {each for each in Severity if not waiver.accepts_severity(each)}


def _explain(report: WaiverReport, waiver: Waiver, policies: Policies, now: datetime) -> WaiverReport:
    unaccepted, stopped, why = _list_unaccepted(waiver), 0, list[str]()
    most = f"{waiver.by} may accept no finding"
    most += "" if waiver.severity is None else f" worse than {waiver.severity}"
    for name in waiver.document.rules:
        gate_rules = [(each.gate, rule) for each in policies.gates for rule in each.rules if rule.id == name]
        refused = [_find_refused(gate, rule, now) for gate, rule in gate_rules]
        is_stopped = all(
            rule.loop and of and of <= unaccepted for (_, rule), of in zip(gate_rules, refused, strict=True)
        )
        stopped += is_stopped
        if is_stopped:
            why.append(f"{most}, and {name} refuses an image only for such")
        elif any(of & unaccepted for of in refused):
            why.append(f"{most}, so that {name} still refuses an image for one")
    is_inert = stopped == len(waiver.document.rules)
    return report.model_copy(update={"why": "; ".join(why), "state": WaiverState.INERT if is_inert else report.state})


def _find_refused(gate: Gate, rule: Rule, now: datetime) -> Set[Severity]:
    """Return the severities of the findings for which a rule may refuse an image; empty if it reads no findings.

    A rule over severities that reads nothing else is asked about each.
    """
    if not find_scans(rule):
        return frozenset()
    loop = rule.loop
    if loop is None or not loop.path.endswith(".severities") or loop.holds.reads != (f"{IMAGE}.{loop.path}",):
        return ANY
    return {each for each in Severity if any(_refuses(gate, loop, one, now) for one in _list_examples(each))}


def _refuses(gate: Gate, loop: Loop, severity: Any, now: datetime) -> bool:
    """Return whether a rule refuses an image for its findings of one severity; True if nobody knows."""
    scan, _, name = loop.path.partition(".")
    try:
        return loop.holds.evaluate(Values.of(gate, {scan: {name: [severity]}}, now)) is not True
    except RuleNotEvaluated:
        return True


def _list_examples(severity: Severity) -> Iterator[dict[str, Any]]:
    """Yield the facts of a severity with few and many findings, with and without fixes and a limit of the owner."""
    for total, is_fixable, is_limited in product(COUNTS, (False, True), (False, True)):
        limit = {"accepted": 0} if is_limited else {}
        yield {"severity": severity.value, "found": total, "fixable": total * is_fixable, "worst": "", **limit}
