"""The gates: `judge` applies every rule of one gate's policy to the facts and collects every reason for a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from supply_chain.evidence.approval import Approval
from supply_chain.evidence.checks import NOT_SHOWN, Check, CheckResult
from supply_chain.evidence.examination import Examination, Identity
from supply_chain.evidence.image_status import ImageStatus, LifecycleDecision
from supply_chain.evidence.reading import SignedValue
from supply_chain.evidence.sbom import Package, system_packages
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.statement import VerifiedStatement
from supply_chain.evidence.summary import Summary
from supply_chain.model.image import Digest, ImageRef, Source, digest_of
from supply_chain.model.manifest import Base, Service
from supply_chain.model.tier import Gate
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Admitted, Reason, Refused
from supply_chain.text import pluralize
from supply_chain.vulnerability.findings import Report

T = TypeVar("T")


NOTED = 20
"""Number of things without a scanner's judgement that a verdict names one by one."""


@dataclass(frozen=True)
class RequiredSoak:
    """A soak that an environment requires."""

    environment: str
    """The environment in which the image has to have been healthy."""
    seconds: int

    def met_by(self, longest: SignedValue[Soak] | None) -> bool:
        """Return whether the longest soak in that environment is long enough; False if there is none."""
        return longest is not None and longest.value.seconds >= self.seconds


@dataclass(frozen=True)
class Place:
    """What an environment requires of everything that is deployed there."""

    name: str
    approval: bool = False
    """Whether a person has to approve."""
    soak: RequiredSoak | None = None
    """The required soak in another environment; None if images may come directly from curation."""
    tests_shown: bool = False
    """Whether a test runner's own report has to show that tests ran."""


@dataclass(frozen=True)
class Dossier(Generic[T]):
    """The facts that a gate decides from: an image, its verified evidence as typed values, and the time."""

    image: T
    ref: ImageRef
    manifest: Service | Base | None
    """The declaration that development signed; None without signed provenance."""
    evidence: tuple[VerifiedStatement, ...]
    left_out: tuple[str, ...] = ()
    """Sentences about what else is attached to the image and why that is not evidence."""
    checks: tuple[CheckResult, ...] = ()
    report: Report | None = None
    source_report: Report | None = None
    signed: bool = False
    verdicts: Mapping[Gate, SignedValue[Summary]] = field(default_factory=dict)
    """The last verdict of each gate of the tier before, if there is one."""
    place: Place | None = None
    """The environment to deploy to; only at the deploy gate."""
    approval: SignedValue[Approval] | None = None
    """The last decision of a person about this image in this environment."""
    soak: SignedValue[Soak] | None = None
    """The longest soak in the environment that comes before this one, if one does."""
    now: datetime | None = None
    uncurated: tuple[str, ...] = ()
    source: Source | None = None
    """The source that was built; None without signed provenance."""
    levels: tuple[str, ...] = ()
    """The level of SLSA's Build track that the build earned."""
    inventory: frozenset[Package] | None = None
    """The packages in the SBOM; None if curation signed none."""
    inherited: frozenset[Package] = frozenset()
    """The distribution's packages in the SBOM of the curated base that the image begins with."""
    examination: Examination | None = None
    """What the image's files contain that no scanner judges; None if curation did not examine them."""
    examined_bases: tuple[Examination, ...] = ()
    """The examinations of the curated bases that went into the image."""
    distributions: Mapping[str, Identity | None] = field(default_factory=dict)
    """Curated base that the image begins with → the distribution of that base."""
    built_with: tuple[str, ...] = ()
    """Curated bases that the build used without starting from them, and whose packages are not all in the SBOM."""
    holder: Holder | None = None
    """Who holds the application's name; None if that is not settled yet."""
    standing: ImageStatus = field(default_factory=ImageStatus)
    """The image status: whether the lifecycle blocks or holds the image."""
    blocked_bases: Mapping[str, LifecycleDecision] = field(default_factory=dict)
    """Images that went into the build and are blocked, each with its block."""


Rule = Callable[[Dossier[Any]], Iterable[Reason]]


@dataclass(frozen=True)
class Policy:
    """The rules of one gate. There is at least one, because a policy without rules admits everything."""

    gate: Gate
    rules: tuple[Rule, ...]
    version: str

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("a policy without rules admits everything")

    @property
    def digest(self) -> Digest:
        """Return a digest of the gate, the policy's version and the names of its rules."""
        names = [self.gate.value, self.version, *(rule.__name__ for rule in self.rules)]
        return digest_of(chr(10).join(names).encode())


def judge(dossier: Dossier[T], policy: Policy) -> Admitted[T] | Refused:
    """Apply every rule of the policy to the facts and return the verdict with every reason. Pure."""
    reasons = tuple(reason for rule in policy.rules for reason in rule(dossier))
    gate, digest, left_out = policy.gate, policy.digest, dossier.left_out
    if reasons:
        return Refused(image=dossier.ref, gate=gate, policy=digest, reasons=reasons, notes=left_out)
    notes = (*_notes(dossier), *left_out, *_not_shown(dossier))
    return Admitted(image=dossier.image, gate=gate, policy=digest, notes=notes)


def _not_shown(dossier: Dossier[Any]) -> tuple[str, ...]:
    """Return a note if there is a result of the check of tests, but no report of a test runner shows that tests ran."""
    made = any(each.check is Check.TESTS for each in dossier.checks)
    shown = any(each.shows_tests for each in dossier.checks)
    return (f"it is not shown that anything was tested ({NOT_SHOWN})",) if made and not shown else ()


def _notes(dossier: Dossier[Any]) -> tuple[str, ...]:
    notes = [f"built on {name}, which is not a curated base" for name in dossier.uncurated]
    notes += [
        f"built with {name} but not on it: content copied from it is judged only if the SBOM lists it"
        for name in dossier.built_with
    ]
    if dossier.source and dossier.source.dirty:
        notes.append("built from a working copy with uncommitted changes")
    report = dossier.report or dossier.source_report
    if packages := unjudged_packages(dossier):
        notes.append(f"not judged, which its owner accepts: {packages}")
    notes += [f"not judged, which its owner accepts: {each}" for each in _accepted(dossier)]
    if report and report.database.kind == "starter":
        notes.append(
            f"judged with the starter database (facts of {report.database.built:%Y-%m-%d}), which covers few packages"
        )
    return tuple(notes)


def unaccepted(dossier: Dossier[Any]) -> Examination:
    """Return what no scanner judges in the image, without what a base has too or the owner accepts."""
    if dossier.examination is None or dossier.manifest is None:
        return Examination()
    return dossier.examination.without(dossier.examined_bases).unaccepted(dossier.manifest.limits.unjudged)


def _accepted(dossier: Dossier[Any]) -> tuple[str, ...]:
    """Return what the owner accepts without a scanner's judgement, each with its place."""
    if dossier.examination is None or dossier.manifest is None:
        return ()
    own, left = dossier.examination.without(dossier.examined_bases), unaccepted(dossier)
    found = [
        *(f"the archive {each.path} ({each.format})" for each in own.archives if each not in left.archives),
        *(f"the package database {each.path} ({each.manager})" for each in own.databases if each not in left.databases),
        *(f"{each.path}: {each.fact}" for each in own.contradictions if each not in left.contradictions),
        *(
            f"it is of {own.distribution or 'no distribution'}, and {base} of {identity or 'none'}"
            for base, identity in dossier.distributions.items()
            if identity != own.distribution
        ),
    ]
    more = [f"{len(found) - NOTED} more (limits.unjudged)"] if found[NOTED:] else []
    return (*found[:NOTED], *more)


def unjudged_packages(dossier: Dossier[Any]) -> str | None:
    """Return which packages of the distribution the scan does not judge and why; None if there are none.

    A scanner finds nothing in packages that its database does not know, and does not report that.
    """
    if dossier.report is None or not (packages := system_packages(dossier.inventory or frozenset())):
        return None
    of, many = dossier.report.distribution, pluralize(len(packages), "package")
    if of is None:
        return f"{many} of a distribution of which the scan does not tell whether the database knows it"
    if not of.name:
        return f"{many} of a distribution that the image does not name as one that the scanner knows"
    if not of.known:
        return f"{many} of {of}, about which the vulnerability database knows nothing"
    return None
