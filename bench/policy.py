"""How long the policies of the deploy gate take to judge an image, next to OPA. Writes a part of docs/performance.md.

    python -m bench.policy [--findings 1500] [--waivers 50] [--rounds 100] [--without-opa] [--dry]

Arms are interleaved in every round, with the shipped policies and the same image:

- *engine*: the CEL engine alone, on facts that are joined already: it takes them over and evaluates each expression;
- *gate*: `evaluate`, which also joins the facts and makes the verdict;
- *parts* of the gate, each by itself;
- *OPA* (`bench.opa`): the same rules in Rego, on the facts that the gate has joined. As a server that has loaded its
  policies it reads the facts in JSON; as a command line it is a process for each image. Before anything is measured,
  both judge the images and every example of the rules' tests, and have to give the same codes.

The gate with the rule library too, an image that is admitted with waivers, a refused one in which each finding is a
reason, and the reading of unchanged policies by a process that has checked them, are measured too. A bad day is
`--waivers 5000 --findings 50000`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from bench.opa import Server, facts_as_json, install_opa, judge_in_process, list_codes, serve
from bench.section import write_section
from supply_chain.evidence.statement import VULNERABILITIES, VerifiedStatement, make_image_statement
from supply_chain.model.image import digest_of
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.expressions import Values, make_language
from supply_chain.policy.fact_values import apply_waivers, make_fact_values
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.gate import evaluate, judge
from supply_chain.policy.loading import DIRECTORY, read_documents, read_policies, replace_policies
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.people import People
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.rule_tests import TESTED, make_example_facts
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import Waiver, WaiverDocument, Waivers
from supply_chain.vulnerability.findings import Severity
from supply_chain.vulnerability.reports import find_last_report
from tests.support import builders
from tests.support.builders import NOON, finding, report
from tests.support.facts import CURATED, deploy_facts

PROJECT = Path(__file__).parents[1]
ENVIRONMENTS = ("staging", "production")
Arms = dict[str, Callable[[], object]]
Ask = Callable[[], Iterator[tuple[str, float]]]
Times = Mapping[str, list[float]]
"""Arm → milliseconds of each round."""


@dataclasses.dataclass(frozen=True)
class Images:
    """The images that are judged."""

    admitted: DeployFacts
    waivable: DeployFacts
    """Admitted with the waivers only."""
    refused: DeployFacts
    """Each finding is a reason."""
    waivers: tuple[Waiver, ...]

    @classmethod
    def of(cls, findings: int, waivers: int) -> Images:
        """Return images with so many findings, and waivers for the first of them."""
        days = [NOON - timedelta(days=each) for each in range(80)]
        vulnerabilities = [
            finding(
                "low", id=f"CVE-2026-{each:05}", package=f"lib{each % 200}", cvss=3.1, epss=0.01,
                published=days[each % 80], fixed_since=days[each % 80],
            )
            for each in range(findings)
        ]  # fmt: skip
        exploited = [each.model_copy(update={"known_exploited": True}) for each in vulnerabilities]
        anything = builders.declaration(limits={each.value: None for each in Severity})
        accepted = builders.declaration(limits={"low": findings - waivers})
        return cls(
            deploy_facts(anything, report=report(*vulnerabilities)),
            deploy_facts(accepted, report=report(*vulnerabilities)),
            deploy_facts(anything, report=report(*exploited)),
            tuple(_waiver(each.id) for each in vulnerabilities[:waivers]),
        )

    def joined(self) -> dict[str, Mapping[str, Any]]:
        """Return the facts of each image as rules read them, with the waivers."""
        return {
            "admitted": make_fact_values(self.admitted, People()),
            f"admitted with {len(self.waivers)} waivers": apply_waivers(
                make_fact_values(self.waivable, People()), self.waivers
            )[0],
            "refused, each finding a reason": make_fact_values(self.refused, People()),
        }


def _waiver(vulnerability: str) -> Waiver:
    document = WaiverDocument(
        vulnerabilities=(vulnerability,), applications=("hello",), reason="r", ticket="t", requester="bob",
        expires=NOON + timedelta(days=30),
    )  # fmt: skip
    return Waiver(vulnerability, digest_of(vulnerability.encode()), document, "ann", Severity.CRITICAL)


def gate_arms(
    images: Images, bare: GatePolicy[DeployFacts], waived: GatePolicy[DeployFacts], everything: GatePolicy[DeployFacts]
) -> Arms:
    """Return the arms that judge the images; the first three in the order of `Images.joined`."""
    joined = make_fact_values(images.admitted, People())

    def engine(policy: GatePolicy[DeployFacts]) -> None:
        values = Values.of(Gate.DEPLOY, joined, NOON, policy.readers)
        for rule in policy.rules:
            rule.reasons(values)

    return {
        "gate, admitted": lambda: evaluate(images.admitted, bare, NOON),
        f"gate, admitted with {len(images.waivers)} waivers": lambda: evaluate(images.waivable, waived, NOON),
        "gate, refused, each finding a reason": lambda: evaluate(images.refused, bare, NOON),
        f"gate with the rule library, {len(everything.rules)} rules": lambda: evaluate(
            images.admitted, everything, NOON
        ),
        "engine, admitted": partial(engine, bare),
        f"engine with the rule library, {len(everything.rules)} rules": partial(engine, everything),
        "reading the policies again, unchanged": lambda: read_policies(PROJECT / DIRECTORY, ENVIRONMENTS),
    }


def part_arms(images: Images, bare: GatePolicy[DeployFacts]) -> Arms:
    """Return the parts of judging the image with waivers, each by itself."""
    joined, first = make_fact_values(images.waivable, People()), make_language(Gate.DEPLOY).compile("image.digest")
    assert images.waivable.report is not None
    statement = VerifiedStatement(
        digest=CURATED.digest,
        repository=CURATED.repository,
        statement=make_image_statement(CURATED, VULNERABILITIES, images.waivable.report.predicate()),
        signer=TierName.CURATION,
    )
    taken = Values.of(Gate.DEPLOY, joined, NOON, bare.readers)
    first.evaluate(taken)
    return {
        "the report is read from its verified statement (not in the gate's time)": lambda: find_last_report(
            [statement]
        ),
        "facts are joined": lambda: make_fact_values(images.waivable, People()),
        "times are converted, and the engine takes the facts over": lambda: first.evaluate(
            Values.of(Gate.DEPLOY, joined, NOON, bare.readers)
        ),
        "rules are evaluated": lambda: [rule.reasons(taken) for rule in bare.rules],
        "waivers are matched, severities counted again": lambda: apply_waivers(joined, images.waivers),
    }


def require_same_codes(server: Server, images: Images, policy: GatePolicy[Any]) -> int:
    """Let OPA judge the images and the examples of the rules' tests, and return their number.

    Raise `SystemExit` if it gives other codes.
    """
    cases = list(_cases(images, policy))
    for name, image, now in cases:
        own = sorted(reason.code for each in judge(image, policy, now) for reason in each.reasons)
        if own != list(other := server.judge(facts_as_json(image, now)).codes):
            raise SystemExit(f"{name}: the gate says {own}, OPA {other}")
    return len(cases)


def _cases(images: Images, policy: GatePolicy[Any]) -> Iterator[tuple[str, Mapping[str, Any], datetime]]:
    yield from ((name, image, NOON) for name, image in images.joined().items())
    for rule in policy.rules:
        for test in rule.document.tests:
            yield f"{rule.id}, {test.name}", make_example_facts(Gate.DEPLOY, test.facts), TESTED


def of_rules(policy: GatePolicy[Any], codes: frozenset[str]) -> GatePolicy[Any]:
    """Return the policies with these rules only."""
    selected = (
        dataclasses.replace(each, rules=tuple(rule for rule in each.rules if rule.id in codes))
        for each in policy.policies
    )
    return dataclasses.replace(policy, policies=tuple(selected))


def measure(arms: Arms, opa: Ask, rounds: int) -> Times:
    """Run every arm in every round."""
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, arm in arms.items():
            begun = time.perf_counter()
            arm()
            times.setdefault(name, []).append(1000 * (time.perf_counter() - begun))
        for name, milliseconds in opa():
            times.setdefault(name, []).append(milliseconds)
    return times


def ask_nobody() -> Iterator[tuple[str, float]]:
    """Yield nothing, in place of `ask_opa`."""
    yield from ()


def ask_opa(server: Server, program: Callable[[Path], None], files: Mapping[str, Path]) -> Iterator[tuple[str, float]]:
    """Yield the milliseconds that OPA takes for each image."""
    for name, file in files.items():
        answer = server.judge(file.read_bytes())
        yield f"OPA, {name}", answer.milliseconds
        yield f"OPA's evaluation, {name}", answer.evaluating
        begun = time.perf_counter()
        program(file)
        yield f"OPA's process, {name}", 1000 * (time.perf_counter() - begun)


def _row(name: str, times: list[float]) -> str:
    return f"{name} | {min(times):.1f} | {statistics.median(times):.1f} | {sorted(times)[int(0.95 * len(times))]:.1f}"


def _compare(times: Times, images: Images) -> Iterator[str]:
    for name in images.joined():
        gate, *others = (min(times[f"{arm}, {name}"]) for arm in ("gate", "OPA's evaluation", "OPA", "OPA's process"))
        yield f"{name} | {gate:.1f} | {' | '.join(f'{each:.1f} ({each / gate:.1f})' for each in others)}"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--findings", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--waivers", type=int, default=50)
    parser.add_argument("--without-opa", action="store_true")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    policies = read_policies(PROJECT / DIRECTORY, ENVIRONMENTS)
    images, bare = Images.of(options.findings, options.waivers), policies.deploy
    waived = policies.with_decisions(People(), Waivers(images.waivers), Vex()).deploy
    assert isinstance(evaluate(images.waivable, bare, NOON), Refused)
    assert isinstance(evaluate(images.waivable, waived, NOON), Admitted)
    library = {name: text.decode() for name, text in read_documents(PROJECT / DIRECTORY / "library").items()}
    everything = replace_policies(policies, library, ENVIRONMENTS).deploy
    own, parts = gate_arms(images, bare, waived, everything), part_arms(images, bare)
    with ExitStack() as stack:
        ask: Ask = ask_nobody
        compared = ""
        if not options.without_opa:
            opa = install_opa()
            server = stack.enter_context(serve(opa))
            cases = require_same_codes(server, images, of_rules(bare, list_codes()))
            work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            files = {name: work / f"{number}.json" for number, name in enumerate(images.joined())}
            for name, image in images.joined().items():
                files[name].write_bytes(facts_as_json(image, NOON))
            compared = (
                f"OPA {opa.version}, {len(of_rules(bare, list_codes()).rules)} rules; {cases} images judged alike"
            )
            ask = partial(ask_opa, server, partial(judge_in_process, opa), files)
        times = measure(own | parts, ask, options.rounds)
    lines = [
        f"## Policies: an image with {options.findings} findings, {len(bare.rules)} rules",
        "",
        f"`python -m bench.policy`, {options.rounds} rounds, Python {platform.python_version()}; milliseconds. "
        f"{os.cpu_count()} processors with a load of {os.getloadavg()[1]:.0f}.",
        "",
        "arm | fastest | median | p95",
        "---|---|---|---",
        *(_row(name, times[name]) for name in own),
    ]
    if compared:
        lines += [
            "",
            f"The same rules in Rego ({compared}), on facts that the gate has joined.",
            "The fastest round of each; in brackets, OPA's time divided by the gate's.",
            "",
            "image | gate | OPA: evaluation | OPA as a server | OPA, a process for each image",
            "---|---|---|---|---",
            *_compare(times, images),
        ]
    print("\n".join(lines))
    print(f"\nThe parts of judging the image with {options.waivers} waivers, each by itself:")
    print("\n".join(_row(name, times[name]) for name in parts))
    if not options.dry:
        write_section("policy", "\n".join(lines))


if __name__ == "__main__":
    main()
