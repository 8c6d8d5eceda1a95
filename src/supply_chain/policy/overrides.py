"""What a break-glass has to name to override a rule: its id, and what it refuses the image for.

These are findings, and reasons of an earlier gate: others can come up while the break-glass lasts, and the person who
signed it has not seen them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from supply_chain.policy.expressions import IMAGE, Values, find
from supply_chain.policy.policies import Rule
from supply_chain.policy.vex import is_accepted

FINDINGS, SEVERITIES = "scan.findings", "scan.severities"
"""The lists of findings, and of their number by severity, as paths from `image`."""
READ = (f"{IMAGE}.{FINDINGS}", f"{IMAGE}.{SEVERITIES}")
VERDICTS = f"{IMAGE}.verdicts."


def name_overrides(rule: Rule, values: Values) -> frozenset[str]:
    """Return what a break-glass has to name so that it overrides the refusal of an image by a rule.

    `values` are those by which the rule refuses it.
    """
    return frozenset([rule.id, *(f"{rule.id}: {each}" for each in _list_refused(rule, values))])


def _list_refused(rule: Rule, values: Values) -> Iterator[str]:
    """Yield the findings and the reasons of earlier gates that a rule refuses an image for."""
    if any(path.startswith(READ) for path in rule.reads):
        findings = (each for each in _find_refused(rule, values) if not is_accepted(each))
        yield from (f"{each['id']} in {each['package']} {each['version']}" for each in findings)
    gates = {path.removeprefix(VERDICTS).partition(".")[0] for path in rule.reads if path.startswith(VERDICTS)}
    for gate in gates & values.image.get("verdicts", {}).keys():
        yield from values.image["verdicts"][gate]["refused"]


def _find_refused(rule: Rule, values: Values) -> Iterable[Mapping[str, Any]]:
    """Return the findings for which a rule refuses an image: all, unless it asks about one after the other."""
    findings: Sequence[Mapping[str, Any]] = values.image.get("scan", {}).get("findings", ())
    if rule.loop is None or rule.loop.path not in (FINDINGS, SEVERITIES):
        return findings
    elements = find(values.image, rule.loop.path)
    refused = [elements[position] for position in rule.find_refused(values)]
    if rule.loop.path == FINDINGS:
        return refused
    severities = {each["severity"] for each in refused}
    return [each for each in findings if each["severity"] in severities]
