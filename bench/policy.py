"""How long the policies of the deploy gate take to judge an image. Writes a part of docs/performance.md.

    python -m bench.policy [--findings 1500] [--rounds 100] [--dry]

Arms are interleaved in every round, with the shipped policies and the same image:

- *engine*: the CEL engine alone, on facts that are joined already: it takes them over and evaluates each expression;
- *gate*: `evaluate`, which also joins the facts and makes the verdict.

The gate with the rule library too, an image that is admitted with waivers, a refused one in which each finding is a
reason, and the reading of unchanged policies by a process that has checked them, are measured too. A bad day is
`--waivers 5000 --findings 50000`.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from bench.section import write_section
from supply_chain.model.tier import Gate
from supply_chain.policy.expressions import Values
from supply_chain.policy.fact_values import values_of
from supply_chain.policy.gate import evaluate
from supply_chain.policy.loading import DIRECTORY, read_documents, read_policies, replace_policies
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.people import People
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import Waiver, WaiverDocument, Waivers
from supply_chain.vulnerability.findings import Severity
from tests.support import builders
from tests.support.builders import NOON, finding, report
from tests.support.facts import deploy_facts

PROJECT = Path(__file__).parents[1]
ENVIRONMENTS = ("staging", "production")


def _waiver(vulnerability: str) -> Waiver:
    document = WaiverDocument(
        vulnerabilities=(vulnerability,), applications=("hello",), reason="r", ticket="t", requester="bob",
        expires=NOON + timedelta(days=30),
    )  # fmt: skip
    return Waiver(vulnerability, document, "ann", Severity.CRITICAL)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--findings", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--waivers", type=int, default=50)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    policies = read_policies(PROJECT / DIRECTORY, ENVIRONMENTS)
    anything = builders.manifest(limits={each.value: None for each in Severity})
    library = {name: text.decode() for name, text in read_documents(PROJECT / DIRECTORY / "library").items()}
    everything = replace_policies(policies, library, ENVIRONMENTS).deploy
    days = [NOON - timedelta(days=each) for each in range(80)]
    found = [
        finding(
            "low", id=f"CVE-2026-{each:05}", package=f"lib{each % 200}", cvss=3.1, epss=0.01, published=days[each % 80],
            fixed_since=days[each % 80],
        )
        for each in range(options.findings)
    ]  # fmt: skip
    exploited = [each.model_copy(update={"known_exploited": True}) for each in found]
    admitted, refused = (deploy_facts(anything, report=report(*each)) for each in (found, exploited))
    joined = values_of(admitted, People())
    accepted = builders.manifest(limits={"low": options.findings - options.waivers})
    waivable = deploy_facts(accepted, report=report(*found))
    waivers = tuple(_waiver(each.id) for each in found[: options.waivers])
    with_waivers = policies.with_decisions(People(), Waivers(waivers), Vex()).deploy
    assert isinstance(evaluate(waivable, policies.deploy, NOON), Refused)
    assert isinstance(evaluate(waivable, with_waivers, NOON), Admitted)

    def engine() -> None:
        values = Values.of(Gate.DEPLOY, joined, NOON)
        for rule in policies.deploy.rules:
            rule.reasons(values)

    arms: dict[str, Callable[[], object]] = {
        "engine": engine,
        "gate": lambda: evaluate(admitted, policies.deploy, NOON),
        f"gate with the rule library, {len(everything.rules)} rules": lambda: evaluate(admitted, everything, NOON),
        f"gate, admitted with {options.waivers} waivers": lambda: evaluate(waivable, with_waivers, NOON),
        "gate, each finding a reason": lambda: evaluate(refused, policies.deploy, NOON),
        "reading the policies again, unchanged": lambda: read_policies(PROJECT / DIRECTORY, ENVIRONMENTS),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.rounds):
        for name, arm in arms.items():
            begun = time.perf_counter()
            arm()
            times[name].append(1000 * (time.perf_counter() - begun))
    rows = [
        f"{name} | {statistics.median(each):.1f} | {sorted(each)[int(0.95 * len(each))]:.1f}"
        for name, each in times.items()
    ]
    lines = [
        f"## Policies: an image with {options.findings} findings, {len(policies.deploy.rules)} rules",
        "",
        f"`python -m bench.policy`, {options.rounds} rounds, Python {platform.python_version()}; milliseconds.",
        "",
        "arm | median | p95",
        "---|---|---",
        *rows,
    ]
    print("\n".join(lines))
    if not options.dry:
        write_section("policy", "\n".join(lines))


if __name__ == "__main__":
    main()
