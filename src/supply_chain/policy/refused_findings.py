"""The findings for which a rule refuses an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from supply_chain.model.image import Digest, digest_of
from supply_chain.policy.expressions import IMAGE, Values, find
from supply_chain.policy.policies import Rule
from supply_chain.policy.vex import SCANS, is_accepted


def name_finding(finding: Mapping[str, Any]) -> str:
    """Return a finding as a break-glass names it: `ID in PACKAGE VERSION`."""
    return f"{finding['id']} in {finding['package']} {finding['version']}"


def digest_findings(rule: Rule, values: Values) -> Digest | None:
    """Return the SHA-256 of the names of all findings for which a rule refuses an image; None if there are none.

    Each name is there once and ends with a newline, in the order of their characters. `values` are those by which the
    rule refuses it.
    """
    names = sorted(set(map(name_finding, find_refused_findings(rule, values))))
    return digest_of("".join(f"{each}\n" for each in names).encode()) if names else None


def find_refused_findings(rule: Rule, values: Values) -> Iterator[Mapping[str, Any]]:
    """Yield the findings for which a rule refuses an image: all, unless it asks about one after the other.

    `values` are those by which the rule refuses it. Accepted findings are left out. A rule that reads a scan as a
    group may read its findings.
    """
    for scan in find_scans(rule):
        if scan in values.image:
            yield from (each for each in _find_refused(rule, scan, values) if not is_accepted(each))


def find_scans(rule: Rule) -> tuple[str, ...]:
    """Return the scans whose findings a rule reads, or may read with the group."""
    groups = {scan: f"{IMAGE}.{scan}" for scan in SCANS}
    read = frozenset(rule.values)
    return tuple(scan for scan, group in groups.items() if read & {group, f"{group}.findings", f"{group}.severities"})


def _find_refused(rule: Rule, scan: str, values: Values) -> Iterator[Mapping[str, Any]]:
    findings, severities = f"{scan}.findings", f"{scan}.severities"
    if rule.loop is None or rule.loop.path not in (findings, severities):
        yield from find(values.image, findings)
        return
    elements = find(values.image, rule.loop.path)
    refused = [elements[position] for position in rule.find_refused(values)]
    if rule.loop.path == findings:
        yield from refused
        return
    names = {each["severity"] for each in refused}
    yield from (each for each in find(values.image, findings) if each["severity"] in names)
