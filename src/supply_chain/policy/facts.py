"""The facts of each gate: what its rules read, and nothing else.

They have no default values. The type checker therefore rejects a forgotten fact, and a rule at a gate whose facts lack
what the rule reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from supply_chain.evidence.approval import Approval
from supply_chain.evidence.attached_statement import AttachedStatement
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.checks import CheckResult
from supply_chain.evidence.encryption import EncryptionRecord
from supply_chain.evidence.examination import Examination, Identity
from supply_chain.evidence.image_status import ImageStatus, LifecycleDecision
from supply_chain.evidence.provenance import Provenance
from supply_chain.evidence.sbom import Listing, Package
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.statement import VerifiedStatement
from supply_chain.evidence.summary import Summary
from supply_chain.model.declaration import Base, Classification, Service
from supply_chain.model.image import ImageRef, Source
from supply_chain.model.tier import Gate
from supply_chain.policy.names import Holder
from supply_chain.vulnerability.findings import Report


@dataclass(frozen=True)
class RequiredSoak:
    """A soak that an environment requires."""

    environment: str
    """The environment in which the image has to have been healthy."""
    seconds: int

    def is_met_by(self, longest: Soak | None) -> bool:
        """Return whether the longest soak in that environment is long enough; False if there is none."""
        return longest is not None and longest.seconds >= self.seconds


@dataclass(frozen=True, kw_only=True)
class EnvironmentRequirements:
    """What an environment requires of every image that is deployed to it."""

    name: str
    approval: bool
    """Whether a person has to approve."""
    signed_approvals: int
    """How many people have to approve with keys of their own; 0 if an unsigned approval is enough."""
    soak: RequiredSoak | None
    """The required soak in another environment; None if images may come directly from curation."""
    test_report: bool
    """Whether a test runner's own report has to show that tests ran."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """The facts of every gate."""

    ref: ImageRef
    provenance: Provenance | None
    """What development signed about the newest build; None without signed provenance."""
    checks: tuple[CheckResult, ...]
    """The newest result of each check that development signed."""
    status: ImageStatus
    """Whether the lifecycle blocks or holds the image."""
    minimum_classification: Classification | None
    """The lowest classification that the application may declare; None if the name register has none for its name."""
    evidence: tuple[VerifiedStatement, ...]
    """The statements that the facts were read from."""
    ignored_referrers: tuple[str, ...]
    """Sentences about what else is attached to the image and why that is not evidence."""
    attached: tuple[AttachedStatement, ...]
    """VEX documents and provenance of others that are attached to the image; whose signatures count is open yet."""

    @property
    def declaration(self) -> Service | Base | None:
        """The declaration that was built; None without signed provenance."""
        return self.provenance.declaration if self.provenance else None

    @property
    def source(self) -> Source | None:
        """The source that was built; None without signed provenance."""
        return self.provenance.source if self.provenance else None


F = TypeVar("F", bound=ImageFacts)


@dataclass(frozen=True, kw_only=True)
class IntakeFacts(ImageFacts):
    """The facts of the intake gate."""

    holder: Holder | None
    """Who holds the application's name; None if that is not settled yet."""
    source_report: Report | None
    """The vulnerability report on the source that development signed."""


@dataclass(frozen=True, kw_only=True)
class CuratedFacts(ImageFacts):
    """The facts of both gates that decide about an image in the curated repository."""

    blocked_bases: Mapping[str, LifecycleDecision]
    """Images that went into the build and are blocked, each with its block."""
    bases: Mapping[str, datetime | None]
    """Curated base that the image is built on or copies from, or that one of these is → when it was built; None if
    nobody signed that."""
    sbom: Listing | None
    """What the SBOM lists; None if curation signed none."""
    examination: Examination | None
    """What the image's files contain that no scanner judges; None if curation did not examine them."""
    examined_bases: tuple[Examination, ...]
    """The examinations of the curated bases that went into the image."""
    report: Report | None
    """The vulnerability report on the image that curation signed."""
    encryption: EncryptionRecord | None
    """The last record of encryption at rest that curation signed."""

    @property
    def packages(self) -> frozenset[Package] | None:
        """The packages in the SBOM; None if curation signed none."""
        return self.sbom.packages if self.sbom else None


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts(CuratedFacts):
    """The facts of the release gate, and of the rescan that repeats its decision."""

    base_packages: Mapping[str, frozenset[Package]]
    """Curated base that the image begins with, or has a changed copy of → the packages in its SBOM."""
    base_distributions: Mapping[str, Identity | None]
    """Curated base that the image begins with, or has a changed copy of → the distribution of that base."""
    copied_bases: tuple[str, ...]
    """Names of the other curated bases that the build used, whose packages are not all in the SBOM."""


@dataclass(frozen=True, kw_only=True)
class DeployFacts(CuratedFacts):
    """The facts of the deploy gate."""

    signed: bool
    """Whether curation signed the image."""
    verdicts: Mapping[Gate, Summary]
    """The last verdicts of the intake gate and of the release gate, as far as there are some."""
    environment: EnvironmentRequirements
    approval: Approval | None
    """The last decision of a person about this image in this environment."""
    signed_approvals: tuple[Approval, ...]
    """The approvals since the last denial that say who signed them; whether that is true is not verified yet."""
    break_glass: tuple[BreakGlass, ...]
    """What people signed since the last denial to let the image run although the gate refuses it; whether they may do
    that is not verified yet."""
    soak: Soak | None
    """The longest soak in the environment in which a soak is required; None if none is."""
