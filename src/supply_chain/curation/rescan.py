"""rescan: what is known by now of an image that lies in the curated repository, and what that changes.

An image is done when signed evidence says so: its last report is what a scan would say now and will not be too
old before the next rescans, and the last verdict of curation's gate rests on that report and on the policy of
today. Whatever is missing of this is made, in this order; so a run that was killed is gone on with by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from supply_chain.app import Limits
from supply_chain.curation.scan import Attacher, keep
from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.provenance import Provenance, last_provenance
from supply_chain.evidence.reading import Said
from supply_chain.evidence.sbom import Listed, last_listed
from supply_chain.evidence.statement import PROVENANCE, SBOM, SUMMARY, VULNERABILITIES
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, last_verdict
from supply_chain.image import Digest, Frozen, ImageRef, digest_set
from supply_chain.policy.dossier import Layers, kept
from supply_chain.policy.gate import judge
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.policy.rules import POLICIES
from supply_chain.policy.verdict import record
from supply_chain.tier import Boundary, TierName
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import last_report
from supply_chain.vulnerability.scanner import SbomGenerator

EARLY = timedelta(days=2)
"""So long before a report is too old it is made anew: two nights may fail."""
POLICY = POLICIES[Boundary.CURATION]


@dataclass(frozen=True)
class Kept:
    """An image in the curated repository, and what signed evidence says of it."""

    ref: ImageRef
    built: Provenance | None
    listed: Listed
    report: Said[Report] | None
    verdict: Said[Summary] | None

    @property
    def limits(self) -> Limits:
        """What its owner accepts; where nobody declared anything, what is so without a word."""
        return self.built.manifest.limits if self.built else Limits()

    def renewed_after(self, now: datetime) -> datetime:
        """A report has to be of a later time: one of this time is too old before long."""
        return now - max(timedelta(days=self.limits.scan_days) - EARLY, timedelta(hours=12))


class Change(Frozen):
    """What curation's gate said of an image before and says now."""

    before: bool | None
    """None where it had not said anything."""
    after: bool
    reasons: tuple[Reason, ...] = ()

    @property
    def turned(self) -> bool:
        """Whether a yes became a no, or a no a yes."""
        return self.before is not self.after


@dataclass(frozen=True)
class Concluded:
    """What came of a report: whether it was signed, and how the verdict changed where it did."""

    signed: bool
    change: Change | None
    passes: bool


class Registry(Attacher, Protocol):
    """What is asked of the registry."""

    def content(self, referrer: ImageRef) -> bytes: ...


def look(
    ref: ImageRef, inventory: SbomGenerator, registry: Registry, evidence: EvidenceStore, now: Callable[[], datetime]
) -> Kept:
    """What evidence says of an image. One that has no SBOM gets one, made and signed as `scan` does it."""
    found = _read(ref, evidence)
    if found is None:
        keep(inventory.of_image(ref), ref, registry=registry, evidence=evidence, now=now)
        found = _read(ref, evidence)
    if found is None:
        raise EvidenceInvalid(
            f"The SBOM of {ref} was signed and attached just now, and cannot be read back.\n"
            "Look at who else writes to the repository, and at the tier's trusted keys; then run the rescan again."
        )
    return found


def _read(ref: ImageRef, evidence: EvidenceStore) -> Kept | None:
    """None where there is no SBOM."""
    reading = evidence.read(ref, PROVENANCE, SBOM, VULNERABILITIES, SUMMARY)
    own = reading.by(TierName.CURATION)
    listed = last_listed(own)
    if listed is None:
        return None
    return Kept(
        ref=ref,
        built=last_provenance(reading.by(TierName.DEVELOPMENT)),
        listed=listed,
        report=last_report(own),
        verdict=last_verdict(own, Boundary.CURATION, ref.digest),
    )


def conclude(
    image: Kept,
    report: Report,
    evidence: EvidenceStore,
    layers: Layers,
    bases: Sequence[ImageRef],
    now: Callable[[], datetime],
) -> Concluded:
    """Sign what is new about an image, and judge it anew where its last verdict does not rest on what is known now.

    `report` may be the one that is signed. A report that finds the same is not signed again before the signed
    one has to be renewed.
    """
    signed = image.report is None or _new(image, image.report.value, report, now())
    where = evidence.attach(image.ref, VULNERABILITIES, report.predicate(), now()) if signed else _where(image)
    if image.verdict is not None and _rests_on(image.verdict.value, where):
        return Concluded(signed, None, image.verdict.value.passed)
    dossier = kept(image.ref, evidence, layers, bases)
    verdict = judge(dossier, POLICY)
    record(verdict, dossier, evidence, now())
    reasons = verdict.reasons if isinstance(verdict, Refused) else ()
    return Concluded(signed, _change(image.verdict, reasons), not reasons)


def _new(image: Kept, signed: Report, report: Report, now: datetime) -> bool:
    return report != signed and (
        not report.says_the_same_as(signed) or signed.scanned < image.renewed_after(now) <= report.scanned
    )


def _where(image: Kept) -> Digest:
    assert image.report is not None  # asked only where there is one
    return image.report.evidence.digest


def _rests_on(verdict: Summary, report: Digest) -> bool:
    """Whether the verdict was given on this report, by the policy of today."""
    policy = verdict.policy.digest == digest_set(POLICY.digest)
    return policy and any(each.digest == digest_set(report) for each in verdict.input_attestations)


def _change(before: Said[Summary] | None, reasons: tuple[Reason, ...]) -> Change | None:
    """None where the gate says what it said before."""
    said = tuple(Reason.model_validate(each) for each in before.value.cscm.reasons) if before else ()
    if before is not None and said == reasons:
        return None
    return Change(before=before.value.passed if before else None, after=not reasons, reasons=reasons)
