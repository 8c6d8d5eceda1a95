"""What the intake gate would say about a working copy, before anything is built.

The snapshot, the reading of the Dockerfile, the checks, the facts and the rules are those of a build and of the gate.
A local image that was built from it is judged too, if one is given: by the probe and a scan, and by the release gate's
rules about the scan. What only a build by the supply chain has is not judged, and the report names the rules that need
it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from supply_chain.development.bases import ImageNames, suggest_base
from supply_chain.development.build import read_dockerfile
from supply_chain.development.dockerfile import DockerfileReader, Reading
from supply_chain.development.locations import (
    NOWHERE,
    Location,
    find_dockerfile_location,
    find_fact_location,
    find_locations,
    find_mistake_location,
)
from supply_chain.development.plan import read_inputs
from supply_chain.development.snapshot import Snapshot
from supply_chain.development.test import Dependencies, Planned, make_checks
from supply_chain.errors import (
    BaseMissing,
    BuildFailed,
    DeclarationInvalid,
    DockerfileRefused,
    SourceInvalid,
    SupplyChainError,
)
from supply_chain.evidence.checks import CHECKS, Check, CheckResult
from supply_chain.evidence.sbom import list_packages
from supply_chain.model.declaration import FILE, Base, Service
from supply_chain.model.image import Digest, Model
from supply_chain.model.tier import BASES
from supply_chain.policy.fact_types import DeclaredValues, ImageCheckedValues, ImageScannedValues, PlannedValues
from supply_chain.policy.fact_values import join_statements, make_local_image_values, make_working_copy_values
from supply_chain.policy.facts import IntakeFacts, ReleaseFacts
from supply_chain.policy.gate import judge_partly
from supply_chain.policy.names import MinimumClassification
from supply_chain.policy.outcome import RuleOutcome, RuleResult, Unjudged
from supply_chain.policy.policies import GatePolicy
from supply_chain.vulnerability.findings import Database
from supply_chain.vulnerability.scanner import Sbom, Scanner, SourceSbomGenerator

NAMESPACE = "check"
"""The prefix of the identifiers of cache mounts, of which there are none outside of a build."""
NO_CONFIGURATION = b"{}"
"""The configuration of every image: none is read."""


class Level(StrEnum):
    """What a finding means."""

    ERROR = "error"
    """The gate refuses it, or nothing is built."""
    WARNING = "warning"
    """A rule only warns of it."""
    NOTE = "note"
    """A check notes it; no rule judges it."""


class Diagnostic(Model):
    """One thing that is wrong with a working copy, or worth knowing."""

    level: Level
    code: str = Field(description="the rule, the error, or the check that only notes it")
    fact: str = Field(description="what was found, in the words of the gate or the build")
    remedy: str
    file: str | None = Field(description="relative to the application's directory; null: not known")
    line: int | None = Field(description="null: not known")


class PreflightRule(Model):
    """One rule of the gate, and whether a working copy is enough to judge it."""

    id: str
    policy: str = Field(description="name and version of its policy")
    title: str = Field(description="the rule in a sentence")
    result: RuleOutcome | None = Field(description="null: not judged")
    needs: tuple[str, ...] = Field(description="the facts that only a built image has, if it is not judged")


class Preflight(Model):
    """What the intake gate would say about a working copy."""

    application: str | None = Field(description="null if the declaration cannot be read")
    policy: Digest = Field(description="of the intake gate")
    diagnostics: tuple[Diagnostic, ...] = Field(description="the errors first")
    rules: tuple[PreflightRule, ...] = Field(
        description="every rule of the intake gate; with an image, also those about its scan"
    )
    image: str | None = Field(description="the local image that was judged too; null: none")
    images: tuple[str, ...] = Field(description="the images that the Dockerfile takes in, which were not read")
    tools: dict[str, str] = Field(description="tool → version")
    database: Database | None = Field(description="null if nothing was scanned")

    @property
    def refused(self) -> bool:
        """Return whether the gate would refuse it, or nothing would be built."""
        return any(each.level is Level.ERROR for each in self.diagnostics)


@dataclass(frozen=True)
class LocalImagePorts:
    """The dependencies of judging a local image."""

    name: str
    """As the engine knows it."""
    run: Callable[[Service | Base], CheckResult]
    """Runs the image: the probe of a service, or the check command of a base."""
    list_contents: Callable[[Service | Base], Sbom]
    """Returns the SBOM; raises `CheckIncomplete` if the image is larger than declared."""
    policy: GatePolicy[ReleaseFacts]


@dataclass(frozen=True)
class PreflightPorts:
    """The dependencies of a preflight."""

    take: Callable[[Path], AbstractContextManager[Snapshot]]
    """Takes the snapshot of a directory."""
    reader: DockerfileReader
    names: ImageNames
    bases: Collection[str]
    """The names of the bases that the project declares."""
    plan: Callable[[Snapshot], Sequence[Planned]]
    """Returns the checks of a snapshot that need no image, without that of the dependencies."""
    generator: SourceSbomGenerator
    scanner: Scanner
    policy: GatePolicy[IntakeFacts]
    minimum_classification: MinimumClassification
    now: Callable[[], datetime]
    image: LocalImagePorts | None = None
    """None: only the working copy is judged."""


def preflight(directory: Path, ports: PreflightPorts) -> Preflight:
    """Make every check of a working copy that needs no image, and apply every rule that needs nothing else.

    What is wrong in the application's own files is a finding. Raises the error of a check that could not be made, and
    `DeclarationInvalid` if there is no declaration.
    """
    _require_declaration(directory)
    ports.scanner.identify()
    with ExitStack() as stack:
        try:
            snapshot = stack.enter_context(ports.take(directory))
        except (DeclarationInvalid, SourceInvalid) as error:
            return _without_snapshot(directory, error, ports.policy)
        return _judge_snapshot(snapshot, ports)


def find_mistakes(
    directory: Path, require: Callable[[Path], None], policy: Callable[[], GatePolicy[IntakeFacts]]
) -> Preflight | None:
    """Return what is wrong with the declaration, or that there is no Dockerfile; None if both can be read.

    `require` raises the error. Raises `DeclarationInvalid` if there is no declaration.
    """
    _require_declaration(directory)
    try:
        require(directory)
    except (DeclarationInvalid, SourceInvalid) as error:
        return _without_snapshot(directory, error, policy())
    return None


def _require_declaration(directory: Path) -> None:
    if not os.path.lexists(directory / FILE):
        raise DeclarationInvalid(f"{directory}/{FILE} does not exist.\nCreate it, or name the right directory.")


def _without_snapshot(directory: Path, error: SupplyChainError, policy: GatePolicy[IntakeFacts]) -> Preflight:
    every = (Unjudged(rule=rule.id, policy=str(of), needs=rule.facts) for of in policy.policies for rule in of.rules)
    return Preflight(
        application=None,
        policy=policy.digest,
        diagnostics=tuple(_mistakes(directory, error)),
        rules=_rules(tuple(every), policy),
        image=None,
        images=(),
        tools={},
        database=None,
    )


def _judge_snapshot(snapshot: Snapshot, ports: PreflightPorts) -> Preflight:
    declaration, reader, generator = snapshot.declaration, _Reader(ports.reader), _Generator(ports.generator)
    problems: list[Diagnostic] = []
    images: dict[str, tuple[str, str | None]] | None = None
    try:
        images = _read_images(snapshot, reader, ports.names)
    except (BuildFailed, DeclarationInvalid, DockerfileRefused) as error:
        problems.append(_dockerfile_problem(error, snapshot, reader.last))
    problems.extend(_unknown_bases(images or {}, ports.bases, snapshot, reader.last))
    dependencies = Dependencies(snapshot.context, generator, ports.scanner, declaration.limits.scan_days, ports.now)
    planned = [*ports.plan(snapshot), *_plan_image_check(declaration, ports.image)]
    checks = make_checks(planned, dependencies)
    report = dependencies.result[1]
    uncurated = None if images is None else list(dict.fromkeys(name for name, at in images.values() if at is not None))
    stated = make_working_copy_values(
        declaration, snapshot.source, uncurated, checks, report, ports.minimum_classification(declaration.name)
    )
    values = join_statements(stated, report.source_packages, (), ports.policy.vex, ports.now())
    kind = DeclaredValues if uncurated is None else PlannedValues
    results = judge_partly(values, kind, ports.policy, ports.now())
    if ports.image is not None:
        results = _judge_image(values, results, declaration, ports, ports.image)
    locations = dict(find_locations(checks, report, generator.sbom, snapshot))
    diagnostics = [*problems, *_reasons(results, locations), *_notes(checks, locations)]
    return Preflight(
        application=declaration.name,
        policy=ports.policy.digest,
        diagnostics=tuple(sorted(diagnostics, key=lambda each: [*Level].index(each.level))),
        rules=_rules(results, ports.policy, *([ports.image.policy] if ports.image else [])),
        image=ports.image.name if ports.image else None,
        images=tuple(dict.fromkeys(name for name, _ in (images or {}).values())),
        tools={name: version for each in checks for name, version in each.tools.items()},
        database=report.database,
    )


def _plan_image_check(declaration: Service | Base, image: LocalImagePorts | None) -> Iterator[Planned]:
    if image is not None:
        check = Check.PROBE if isinstance(declaration, Service) else Check.COMMAND
        yield Planned(check, {}, partial(image.run, declaration))


def _judge_image(
    values: Mapping[str, Any],
    results: Sequence[RuleResult | Unjudged],
    declaration: Service | Base,
    ports: PreflightPorts,
    image: LocalImagePorts,
) -> tuple[RuleResult | Unjudged, ...]:
    """Return the results of the intake gate's rules, with those that the image's check determines and of its scan."""
    now = ports.now()
    checked = judge_partly(values, ImageCheckedValues, ports.policy, now)
    sbom = image.list_contents(declaration)
    packages = list_packages(sbom.content)
    stated = make_local_image_values(declaration, values["build"], ports.scanner.scan(sbom), packages)
    scanned = join_statements(stated, packages, (), image.policy.vex, now)
    of_intake = {each.rule for each in results}
    released = judge_partly(scanned, ImageScannedValues, image.policy, now)
    return (
        *(other if isinstance(each, Unjudged) else each for each, other in zip(results, checked, strict=True)),
        *(each for each in released if isinstance(each, RuleResult) and each.rule not in of_intake),
    )


def _read_images(snapshot: Snapshot, reader: DockerfileReader, names: ImageNames) -> dict[str, tuple[str, str | None]]:
    """Return the images of a Dockerfile by their names as BuildKit reads them; raise as `plan_build`."""
    declaration = snapshot.declaration
    inputs = read_inputs(
        read_dockerfile(snapshot),
        declaration,
        snapshot.source,
        NAMESPACE,
        reader,
        lambda reference: names.find(reference, declaration.build.fetch.images),
        lambda _: NO_CONFIGURATION,
    )
    return dict(inputs.images)


def _unknown_bases(
    images: Mapping[str, tuple[str, str | None]], bases: Collection[str], snapshot: Snapshot, reading: Reading | None
) -> Iterator[Diagnostic]:
    """Yield a warning for each curated base that the project does not declare; another project may build it."""
    for reference, (name, address) in images.items():
        repository = name.partition("@")[0]
        if address is None and repository not in {f"{BASES}/{base}" for base in bases}:
            fact = f"{name} is not among the bases of this project: {', '.join(bases)}{suggest_base(repository, bases)}"
            at = find_dockerfile_location(reference, snapshot, reading)
            remedy = "Correct the name; only a build finds the bases of other projects."
            yield _diagnostic(Level.WARNING, BaseMissing.code, fact, remedy, at)


def _rules(results: Sequence[RuleResult | Unjudged], *policies: GatePolicy[Any]) -> tuple[PreflightRule, ...]:
    titles = {rule.id: rule.document.title for policy in policies for rule in policy.rules}
    return tuple(
        PreflightRule(
            id=each.rule,
            policy=each.policy,
            title=titles[each.rule],
            result=each.result if isinstance(each, RuleResult) else None,
            needs=each.needs if isinstance(each, Unjudged) else (),
        )
        for each in results
    )


def _reasons(results: Sequence[RuleResult | Unjudged], locations: Mapping[str, Location]) -> Iterator[Diagnostic]:
    for each in results:
        if isinstance(each, RuleResult):
            level = Level.ERROR if each.result is RuleOutcome.REFUSED else Level.WARNING
            for reason in each.reasons:
                at = find_fact_location(reason.fact, locations)
                fact = "; ".join([reason.fact, *(f"waived by {waiver}" for waiver in each.waivers)])
                yield _diagnostic(level, reason.code, fact, reason.remedy, at)


def _notes(checks: Sequence[CheckResult], locations: Mapping[str, Location]) -> Iterator[Diagnostic]:
    for each in checks:
        for sentence in each.warned:
            at = locations.get(sentence, NOWHERE)
            yield _diagnostic(Level.NOTE, each.check.value, sentence, CHECKS[each.check].remedy, at)


def _diagnostic(level: Level, code: str, fact: str, remedy: str, at: Location) -> Diagnostic:
    return Diagnostic(level=level, code=code, fact=fact, remedy=remedy, file=at.file, line=at.line)


def _mistakes(directory: Path, error: SupplyChainError) -> Iterator[Diagnostic]:
    """Yield a diagnostic for each mistake in the declaration or the source that an error names, at least one."""
    lines = error.message.splitlines()
    facts, remedy = (lines[:-1], lines[-1]) if len(lines) > 1 else (lines, "")
    for fact in facts:
        text = fact.removeprefix(f"{directory}/")
        at = find_mistake_location(text, directory, in_declaration=isinstance(error, DeclarationInvalid))
        yield _diagnostic(Level.ERROR, error.code, text, remedy, at)


def _dockerfile_problem(error: SupplyChainError, snapshot: Snapshot, reading: Reading | None) -> Diagnostic:
    """Return a diagnostic for an error about the Dockerfile."""
    fact, _, remedy = error.message.partition("\n")
    at = find_dockerfile_location(fact, snapshot, reading)
    return _diagnostic(Level.ERROR, error.code, fact, remedy.replace("\n", " "), at)


@dataclass
class _Reader:
    """A reader of Dockerfiles that retains its last reading, in which the line of a problem is found."""

    reader: DockerfileReader
    last: Reading | None = None

    @property
    def version(self) -> str:
        return self.reader.version

    def read(
        self,
        content: bytes,
        targets: Sequence[str],
        platform: str,
        arguments: Mapping[str, str],
        namespace: str,
        configs: Mapping[str, bytes],
    ) -> Reading:
        self.last = self.reader.read(content, targets, platform, arguments, namespace, configs)
        return self.last


@dataclass
class _Generator:
    """An SBOM generator that retains its last SBOM, which has the files of the packages."""

    source: SourceSbomGenerator
    sbom: Sbom | None = field(default=None, init=False)

    @property
    def generator(self) -> str:
        return self.source.generator

    def make_directory_sbom(self, directory: Path) -> Sbom:
        self.sbom = self.source.make_directory_sbom(directory)
        return self.sbom
