"""How long a preview of policies takes for a large inventory. Writes a part of docs/performance.md.

    python -m bench.preview [--images 10000] [--findings 300] [--dry]

An inventory is made in a temporary directory, with ten images of each application. The intake gate judged all of them,
and one runs in two environments. One image in ten is refused now, and one in five has three findings that the new rule
refuses. These proposals are judged:

- *one new rule*, about each finding, at both gates;
- *all policies*, each rule of which has another condition, so that every rule is judged twice.
- *one waiver* and *a VEX document*: the policies stay, and judge other facts.

The time is that of the step of the flow: it reads the policies and starts a process for each processor, which read and
judge the facts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.section import write_section
from supply_chain.adapters.database import SqlInventory, open_inventory
from supply_chain.adapters.database.preview import StoredJudge
from supply_chain.evidence.sbom import Package
from supply_chain.fleet.gate_facts import StoredFacts, SubjectState, compute_facts_version
from supply_chain.fleet.image import FleetImage, Running
from supply_chain.fleet.inventory import Entry
from supply_chain.fleet.preview import PolicyPreview, preview
from supply_chain.model.declaration import Base, Service
from supply_chain.model.image import ImageRef, StoredManifest, digest_of
from supply_chain.model.tier import Gate, name_development_repository
from supply_chain.policy.fact_values import make_evidence_values
from supply_chain.policy.loading import DIRECTORY, read_documents
from supply_chain.policy.people import People, Person, WaiverRole
from supply_chain.policy.proposals import SignedDecisions, sort_proposals
from supply_chain.policy.reviews import Reviews
from supply_chain.vulnerability.findings import Finding, Severity
from supply_chain.vulnerability.matching import count_processors
from supply_chain.vulnerability.vex.matching import VexTerms
from supply_chain.vulnerability.vex.openvex import CONTEXT
from tests.support import builders
from tests.support.builders import NOON, finding, report
from tests.support.facts import FACTS, provenance_of, requirements
from tests.support.policies import POLICIES

PROJECT = Path(__file__).parents[1]
ENVIRONMENTS = ("staging", "production")
EACH = 10
"""Number of images of an application."""
SOURCE = 10
"""The share of an image's findings that its source has: one in so many."""
VULNERABILITIES, PACKAGES = 20_000, 2_000
"""Number of different findings, and of packages that they are in."""
OURS = """
name: ours
version: 1
description: What an organisation requires besides.
gates: [release, deploy]
rules:
- id: ours.likely-exploit
  title: Refuse if a finding with a fix is likely to be exploited.
  when: has(image.scan)
  for_each: finding in image.scan.findings
  expression: size(finding.fixed_in) == 0 || (has(finding.epss) && finding.epss < 0.5)
  message: "{finding.text} may be exploited"
  remedy: "{finding.fix}"
  tests:
  - {name: no finding, passes: true}
  - name: a likely one
    facts:
      scan:
        findings:
        - {id: CVE-2026-1, aliases: [], severity: low, package: zlib, version: "1", type: deb, fixed_in: ["2"],
           exploited: false, epss: 0.9, text: CVE-2026-1 in zlib, fix: upgrade zlib}
    passes: false
"""

WAIVER = """
vulnerabilities: [{name}]
applications: ["*"]
reason: It is not reachable.
ticket: SEC-1
requester: bob
expires: 2026-12-01T00:00:00Z
"""
MANY = 20
"""Number of proposed statements of a VEX document, each about another vulnerability."""
ROLE = WaiverRole(vulnerabilities=Severity.CRITICAL, days=90)
PEOPLE = People(
    people={"ann": Person(keys=("unused",), waive=ROLE)},
    issuers={"psirt": ()},
    vex_terms=VexTerms(accepted_justifications=frozenset(), investigation_days=0, not_affected_days=365),
)


def fill(inventory: SqlInventory, images: int, findings: int) -> list[Finding]:
    """Store images with their facts; return the findings that they have some of."""
    chance = random.Random(17)  # noqa: S311 (a benchmark's data)
    published = [_finding(number, chance) for number in range(VULNERABILITIES)]
    likely = [each.model_copy(update={"epss": 0.9, "fixed_in": ("9.1",)}) for each in published[:200]]
    for application in range(images // EACH):
        name = f"app{application:04}"
        inventory.put(_entry(name, number) for number in range(EACH))
        declared = builders.declaration(name=name, limits={each.value: None for each in Severity})
        of_images = [
            [*chance.sample(published, findings - 3), *chance.sample(likely if number % 5 == 1 else published, 3)]
            for number in range(EACH)
        ]
        of_images[2][0] = of_images[2][0].model_copy(update={"known_exploited": True})
        curated = [state.subject.image for state in inventory.list_subjects(name) if not state.subject.environment]
        inventory.put_offered(
            name, {image.with_repository(name_development_repository(name)): "mark" for image in curated}
        )
        inventory.put_facts(
            _facts(state, declared, of_images[int(state.subject.image.digest[-1])])
            for state in inventory.list_subjects(name)
        )
    return published


def _facts(state: SubjectState, declared: Service | Base, vulnerabilities: Sequence[Finding]) -> StoredFacts:
    subject, of_gate = state.subject, dict[str, Any]()
    if subject.gate is Gate.INTAKE:
        of_gate = {"source_report": report(*vulnerabilities[: len(vulnerabilities) // SOURCE])}
    else:
        of_gate = {"report": report(*vulnerabilities), "packages": _packages(vulnerabilities)}
    if subject.environment:
        of_gate["environment"] = requirements(subject.environment)
    facts = FACTS[subject.gate](declared, ref=subject.image, provenance=provenance_of(declared), **of_gate)
    version = compute_facts_version(subject.environment, requirements, PEOPLE, None)
    return StoredFacts(subject, state.mark, version, make_evidence_values(facts, PEOPLE, NOON))


def _packages(vulnerabilities: Sequence[Finding]) -> frozenset[Package]:
    return frozenset(
        (each.type, each.package, f"pkg:deb/debian/{each.package}@{each.version}") for each in vulnerabilities
    )


def _vex(published: Sequence[Finding]) -> str:
    """Return an OpenVEX document about these findings."""
    statements = [
        {
            "vulnerability": {"name": each.id},
            "products": [{"@id": f"pkg:deb/debian/{each.package}"}],
            "status": "fixed",
        }
        for each in published
    ]
    return json.dumps(
        {
            "@context": CONTEXT, "@id": "https://psirt.example/1", "author": "psirt", "timestamp": NOON.isoformat(),
            "version": 1, "statements": statements,
        }
    )  # fmt: skip


def _change_rules(text: str) -> str:
    """Return a policy whose rules decide alike, but are not the same."""
    document = yaml.safe_load(text)
    for rule in document["rules"]:
        rule["when"] = f"({rule.get('when', 'true')}) && true"
    return yaml.safe_dump({**document, "version": document["version"] + 1})


def _finding(number: int, chance: random.Random) -> Finding:
    return finding(
        chance.choice(list(Severity)),
        id=f"CVE-{chance.randrange(2010, 2027)}-{number:05}",
        aliases=(f"GHSA-{chance.getrandbits(48):012x}",),
        package=f"lib{chance.randrange(PACKAGES)}",
        version=f"{chance.randrange(9)}.{chance.randrange(99)}-{chance.randrange(9)}",
        fixed_in=(f"9.{chance.randrange(99)}",) if chance.random() < 0.6 else (),
        epss=round(chance.random() / 10, 5),
    )


def _entry(name: str, number: int) -> Entry:
    digest = digest_of(name.encode())[:-1] + str(number)
    deployed = tuple(
        Running(
            environment=environment, application=name, container=f"{environment} {digest}", name=name,
            address="http://127.0.0.1:8080/", host="laptop", since=NOON,
        )
        for environment in (ENVIRONMENTS if number == 1 else ())
    )  # fmt: skip
    stored = StoredManifest(digest=digest, pushed_at=NOON, size=1)
    ref = ImageRef(repository=f"curated/{name}", digest=digest)
    return Entry(FleetImage(ref=ref, stored=stored, deployed=deployed), frozenset(), "mark")


def measure(address: str, proposed: Mapping[str, str]) -> tuple[float, float, PolicyPreview]:
    """Return the seconds of a preview, the seconds of processors that it used, and its result."""
    begun, used, directory = time.perf_counter(), sum(os.times()[:4]), PROJECT / DIRECTORY
    proposal, signed = sort_proposals(proposed), SignedDecisions(PEOPLE, (), {})
    decisions = signed.propose(proposal, POLICIES.waivable, POLICIES.waivable, NOON)
    documents = read_documents(directory)
    judge = StoredJudge(address, directory, documents, proposal.policies, decisions, Reviews(), ENVIRONMENTS, NOON)
    result = preview(judge.inventory, judge.compare(), requirements, PEOPLE, lambda _: None, judge.judge)
    return time.perf_counter() - begun, sum(os.times()[:4]) - used, result


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--findings", type=int, default=300)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    shipped = {each.name: _change_rules(each.read_text()) for each in sorted((PROJECT / DIRECTORY).glob("*.yaml"))}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "inventory.db"
        address = f"sqlite:///{file}"
        published = fill(open_inventory(address), options.images, options.findings)
        arms = {
            "one new rule": {"ours.yaml": OURS},
            "all policies": shipped,
            "one waiver": {"one.yaml": WAIVER.format(name=published[0].id)},
            f"a VEX document with {MANY} statements": {"vex.json": _vex(published[:MANY])},
        }
        subjects = Counter({Gate.INTAKE: options.images, Gate.RELEASE: options.images})
        subjects[Gate.DEPLOY] = options.images // EACH * len(ENVIRONMENTS)
        rows = []
        for name, proposed in arms.items():
            seconds, used, result = measure(address, proposed)
            assert not result.not_judged, result.not_judged[0]
            assert result.gates, name
            assert result.judged == sum(subjects[gate] for gate in result.gates), result.judged
            rows.append(f"{name} | {result.judged} | {len(result.changes)} | {seconds:.1f} | {used:.1f}")
        size = file.stat().st_size / 1e6
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    lines = [
        f"## A preview of policies: {options.images} images with {options.findings} findings each",
        "",
        f"`python -m bench.preview`, Python {platform.python_version()}, {count_processors()} processors, which other "
        "work uses too; the goal is 30 seconds. "
        f"The inventory has {size:.0f} MB, each process at most {memory:.0f} MiB.",
        "",
        "proposed | judged | changes | seconds | seconds of processors",
        "---|---|---|---|---",
        *rows,
    ]
    print("\n".join(lines))
    if not options.dry:
        write_section("preview", "\n".join(lines))


if __name__ == "__main__":
    main()
