"""What a break-glass has to name to override a rule: its id, and what it refuses the image for.

These are findings, and reasons and ended waivers of an earlier gate: others can come up while the break-glass lasts,
and the person who signed it has not seen them.
"""

from __future__ import annotations

from collections.abc import Iterator

from supply_chain.policy.expressions import IMAGE, Values
from supply_chain.policy.policies import Rule
from supply_chain.policy.refused_findings import find_refused_findings, name_finding

VERDICTS = f"{IMAGE}.verdicts."


def name_overrides(rule: Rule, values: Values) -> frozenset[str]:
    """Return what a break-glass has to name so that it overrides the refusal of an image by a rule.

    `values` are those by which the rule refuses it.
    """
    return frozenset([rule.id, *(f"{rule.id}: {each}" for each in _list_refused(rule, values))])


def _list_refused(rule: Rule, values: Values) -> Iterator[str]:
    """Yield the findings, and the reasons and ended waivers of earlier gates, that a rule refuses an image for.

    A reason of an earlier gate names some of its findings; the digest of all of them is named next to it.
    """
    yield from map(name_finding, find_refused_findings(rule, values))
    gates = {path.removeprefix(VERDICTS).partition(".")[0] for path in rule.reads if path.startswith(VERDICTS)}
    for gate in gates & values.image.get("verdicts", {}).keys():
        yield from values.image["verdicts"][gate]["reasons"]
        yield from (f"findings of {each}" for each in values.image["verdicts"][gate]["refused_findings"])
        yield from (f"waiver {each}" for each in values.image["verdicts"][gate]["ended_waivers"])
