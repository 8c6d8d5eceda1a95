"""The rescan of an image in the curated repository: what is known of it now, and what that changes.

Signed evidence shows that an image is done: a scan would find now what its last report says, the report will not be too
old before the next rescans, and the last verdict of the release gate rests on the evidence that is verified now, on the
current policy, and on the latest decisions about the image and its bases. The rescan makes what is missing, in this
order, so that the next run continues after one that was killed. That run also reports the changes: it compares with the
state that was reported last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Protocol

from supply_chain.concurrency import map_concurrently
from supply_chain.curation.scan import make_sboms
from supply_chain.errors import ClockWrong, EvidenceInvalid
from supply_chain.evidence.image_status import Act, compute_image_status, read_decisions, read_image_status
from supply_chain.evidence.provenance import Provenance, find_last_provenance
from supply_chain.evidence.reading import SignedValue
from supply_chain.evidence.sbom import Listed, find_last_sbom
from supply_chain.evidence.statement import VULNERABILITIES, VerifiedStatement
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, list_verdicts, name_verifier
from supply_chain.model.declaration import Classification, Limits
from supply_chain.model.image import Digest, ImageRef, Model, digest_set
from supply_chain.model.registry_ports import Attacher, ContentReader, RepositoryCreator
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.facts import ReleaseFacts
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.reading import Layers, find_all_bases, find_bases_in_layers, read_release_facts
from supply_chain.policy.verdict import is_conclusion, record, record_refusal
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import find_last_report
from supply_chain.vulnerability.scanner import SbomGenerator

EARLY = timedelta(days=2)
"""How long before its end of validity a report is made again, so that rescans may fail in two nights."""

CLASSIFICATION = "name.classification"
"""The rule about the name register's classifications; a change of that file is no new evidence of an image."""


@dataclass(frozen=True)
class SignedResult:
    """What curation signed about an image at some time: its report, and the verdict of the release gate."""

    report: SignedValue[Report] | None
    verdict: SignedValue[Summary] | None


@dataclass(frozen=True)
class ImageEvidence:
    """An image in the curated repository, and what signed evidence says about it."""

    ref: ImageRef
    built: Provenance | None
    listed: Listed
    last: SignedResult
    last_reported: SignedResult
    """The verdict when a rescan last reported its results, or else the first one, and the report it rests on."""
    judged: tuple[SignedValue[Summary], ...]
    """Every verdict of the release gate, the oldest first."""
    verified: frozenset[Digest]
    """Digests of all evidence of the image that is verified now, except curation's own conclusions from it."""
    decisions: frozenset[Digest]
    """Digests of the statements that block or unblock the image."""
    blocked: bool
    has_attached: bool
    """Whether VEX documents or provenance of others are attached, which people.yaml and the time decide about."""

    @property
    def materials(self) -> tuple[Digest, ...]:
        """Digests of the images that its build used."""
        return tuple(digest for digest, _ in self.built.materials) if self.built else ()

    @property
    def limits(self) -> Limits:
        """What the owner accepts; the defaults if the owner declared nothing."""
        return self.built.declaration.limits if self.built else Limits()

    def compute_renewal_time(self, now: datetime) -> datetime:
        """Return the oldest time of a report that does not have to be renewed yet."""
        return now - max(timedelta(days=self.limits.scan_days) - EARLY, timedelta(hours=12))


class Change(Model):
    """The answers of the release gate, before and now."""

    before: bool | None
    """None if there was no verdict before."""
    after: bool
    reasons: tuple[Reason, ...] = ()


class News(Change):
    """A change, and the verdict that it dates from."""

    since: Digest


@dataclass(frozen=True)
class Conclusion:
    """The result for one image and its report."""

    signed: bool
    """Whether the report was signed."""
    news: News | None
    """The change from the verdict that was reported last, or else from the last different verdict since then."""
    change: Change | None
    """The change from the verdict that was reported last."""
    passes: bool
    """Whether the gate admits the image now. It refuses a blocked image."""


class ReportRegistry(Attacher, ContentReader, Protocol):
    """A registry that attaches reports and reads what is attached."""


def read_evidence(
    ref: ImageRef,
    generator: SbomGenerator,
    registry: ReportRegistry,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
    reported: datetime | None = None,
) -> ImageEvidence:
    """Read what evidence says about an image; make and sign its SBOM as `scan` does if it has none.

    The SBOM is also made if the existing one has no examination with it. `reported` is when a rescan last reported its
    results; without it, everything that is signed counts as reported. Raises `EvidenceInvalid` if the new SBOM cannot
    be read back.
    """
    image_evidence = _read_evidence(ref, evidence, reported)
    if image_evidence is None or image_evidence.listed.examination is None:
        make_sboms(ref, generator, registry, evidence, now)
        image_evidence = _read_evidence(ref, evidence, reported)
    if image_evidence is None:
        raise EvidenceInvalid(
            f"The SBOM of {ref} was signed and attached just now, and cannot be read back.\n"
            "Look at who else writes to the repository, and at the tier's trusted keys; then run the rescan again."
        )
    return image_evidence


def _read_evidence(ref: ImageRef, evidence: EvidenceStore, reported: datetime | None) -> ImageEvidence | None:
    """Read what evidence says about an image; return None if it has no SBOM."""
    reading = evidence.read(ref)
    own, development = reading.list_signed_by(TierName.CURATION), reading.list_signed_by(TierName.DEVELOPMENT)
    listed = find_last_sbom(own)
    if listed is None:
        return None
    judged, report = list_verdicts(own, Gate.RELEASE, ref.digest), find_last_report(own)
    last = next(reversed(judged), None)
    reported_verdict = next(
        (each for each in reversed(judged) if reported is None or each.at <= reported), next(iter(judged), None)
    )
    statements = read_image_status(ref, evidence).evidence
    return ImageEvidence(
        ref=ref,
        built=find_last_provenance(development),
        listed=listed,
        last=SignedResult(report, last),
        last_reported=SignedResult(_find_report(reported_verdict, report, own), reported_verdict),
        judged=judged,
        verified=frozenset(e.digest for e in (*development, *own) if not is_conclusion(e, TierName.CURATION)),
        decisions=_block_digests(statements),
        blocked=compute_image_status(statements).block is not None,
        has_attached=bool(reading.attached),
    )


def _block_digests(evidence: Iterable[VerifiedStatement]) -> frozenset[Digest]:
    """Return the digests of the statements that block or unblock something."""
    return frozenset(
        each.evidence.digest for each in read_decisions(evidence) if each.value.act in (Act.BLOCK, Act.UNBLOCK)
    )


def _find_report(
    verdict: SignedValue[Summary] | None, last: SignedValue[Report] | None, own: Iterable[VerifiedStatement]
) -> SignedValue[Report] | None:
    """Return the report that a verdict rests on, which is usually the last one.

    A report that was signed but not used for a verdict was never reported to anybody.
    """
    inputs = _inputs(verdict) if verdict else frozenset()
    if last is not None and last.evidence.digest in inputs:
        return last
    return find_last_report(each for each in own if each.digest in inputs)


BaseDecisions = Mapping[ImageRef, frozenset[Digest] | None]
"""Base → digests of the statements that block or unblock it; None if they cannot be read."""


def read_base_decisions(bases: Iterable[ImageRef], evidence: EvidenceStore) -> BaseDecisions:
    """Return the bases to which a block or unblock applies, each with the statements.

    It applies to the base that it names and to every base that is built on that one. A verdict about an image that is
    built on such a base has to rest on these statements. If they cannot be read, the value is None: every image on that
    base is judged, and reported with the reason.
    """
    refs = tuple(bases)

    def read_about(base: ImageRef) -> frozenset[Digest] | None:
        try:
            below = find_all_bases([base], refs, evidence)
            return _block_digests(each for one in below for each in read_image_status(one, evidence).evidence)
        except (EvidenceInvalid, ClockWrong):
            return None

    results = zip(refs, map_concurrently(read_about, refs), strict=True)
    return {base: decisions for base, decisions in results if decisions is None or decisions}


def conclude(
    image: ImageEvidence,
    report: Report,
    evidence: EvidenceStore,
    repositories: RepositoryCreator,
    layers: Layers,
    bases: Sequence[ImageRef],
    base_decisions: BaseDecisions,
    minimum_classification: Classification | None,
    policy: GatePolicy[ReleaseFacts],
    now: Callable[[], datetime],
) -> Conclusion:
    """Sign what is new about an image, and judge the image again if its last verdict is out of date.

    `report` may be the one that is already signed. A report with the same findings is not signed again before the
    signed one has to be renewed. `bases` are all curated bases, and `base_decisions` is the result of
    `read_base_decisions`; `minimum_classification` is that of the name register. A blocked image is not judged: every
    gate refuses it until somebody unblocks it, and a signed refusal would remain after that.
    """
    signed = image.last.report is None or _needs_signature(image, image.last.report.value, report, now())
    if signed:
        evidence.attach(image.ref, VULNERABILITIES, report.predicate(), now())
    if image.blocked:
        return Conclusion(signed, news=None, change=None, passes=False)
    if (
        image.last.verdict
        and not signed
        and policy.is_settled
        and _is_up_to_date(
            image.last.verdict,
            image,
            minimum_classification,
            policy,
            _find_base_decisions(image, base_decisions, layers, evidence),
        )
    ):
        reasons, statement = _reasons(image.last.verdict), image.last.verdict.evidence.digest
    else:
        facts = read_release_facts(image.ref, evidence, layers, bases, minimum_classification)
        verdict = evaluate(facts, policy, now())
        if isinstance(verdict, Refused):
            reasons, statement = verdict.reasons, record_refusal(verdict, facts, repositories, evidence, now())
        else:
            reasons, statement = (), record(verdict, facts, evidence, now())
    change = _compare_verdict(image.last_reported.verdict, reasons)
    differs = change or _find_reversal(image, reasons)
    news = (
        News(**differs.model_dump(), since=_find_first_verdict(image.judged, reasons, statement)) if differs else None
    )
    return Conclusion(signed, news=news, change=change, passes=not reasons)


def _needs_signature(image: ImageEvidence, signed: Report, report: Report, now: datetime) -> bool:
    return report != signed and (
        not report.has_same_content(signed) or signed.scanned < image.compute_renewal_time(now) <= report.scanned
    )


def _find_base_decisions(
    image: ImageEvidence, base_decisions: BaseDecisions, layers: Layers, evidence: EvidenceStore
) -> tuple[frozenset[Digest] | None, ...]:
    """Return the blocks and unblocks of the bases of an image, by digest; None for those that cannot be read.

    The bases are those that its build names and those that its layers show.
    """
    below = find_bases_in_layers(image.ref, tuple(base_decisions), layers, evidence)[0] if base_decisions else ()
    return tuple(
        decisions for base, decisions in base_decisions.items() if base in below or base.digest in image.materials
    )


def _is_up_to_date(
    verdict: SignedValue[Summary],
    image: ImageEvidence,
    minimum_classification: Classification | None,
    policy: GatePolicy[ReleaseFacts],
    of_bases: Collection[frozenset[Digest] | None],
) -> bool:
    """Return whether a verdict is up to date.

    It is, if it rests on exactly the evidence of the image that is verified now, on the current policy, and on all
    blocks and unblocks of the image and of its bases, and has no end and no attached statement of others. It also
    refuses the declared classification exactly if the name register requires a higher one now. One of an earlier
    version, which names the gate otherwise, is not: it was not published.
    """
    inputs = _inputs(verdict)
    too_low = image.built is not None and image.built.declaration.classification.is_below(minimum_classification)
    return (
        verdict.value.cscm.expires is None
        and verdict.value.verifier.id == name_verifier(Gate.RELEASE)
        and not image.has_attached
        and too_low is any(each.code == CLASSIFICATION for each in _reasons(verdict))
        and verdict.value.policy.digest == digest_set(policy.digest)
        and _inputs(verdict, prefix=f"{image.ref.repository}@") == image.verified
        and all(each is not None and each <= inputs for each in (image.decisions, *of_bases))
    )


def _inputs(verdict: SignedValue[Summary], prefix: str = "") -> frozenset[Digest]:
    """Return the digests of the statements that a verdict rests on.

    `prefix` selects those whose address begins with it.
    """
    named = (each for each in verdict.value.input_attestations if each.uri.startswith(prefix))
    return frozenset(f"sha256:{each.digest.get('sha256')}" for each in named)


def _compare_verdict(before: SignedValue[Summary] | None, reasons: tuple[Reason, ...]) -> Change | None:
    """Return how the gate's answer differs from an earlier verdict; None if it is the same."""
    if before is not None and _reasons(before) == reasons:
        return None
    return Change(before=before.value.passed if before else None, after=not reasons, reasons=reasons)


def _find_reversal(image: ImageEvidence, reasons: tuple[Reason, ...]) -> Change | None:
    """Return the change from the last different verdict after the one that was reported last; None without one.

    Needed if the gate gives again the answer that was reported last: the owner may have been notified of the change in
    between, but not of the change back.
    """
    after = takewhile(lambda each: each is not image.last_reported.verdict, reversed(image.judged))
    return next((change for each in after if (change := _compare_verdict(each, reasons))), None)


def _find_first_verdict(judged: Sequence[SignedValue[Summary]], reasons: tuple[Reason, ...], latest: Digest) -> Digest:
    """Return the digest of the verdict since which the gate gives this answer.

    That is the last verdict (`latest`), or the first of the verdicts directly before it with the same answer.
    """
    for each in reversed(judged):
        if _compare_verdict(each, reasons):
            break
        latest = each.evidence.digest
    return latest


def _reasons(verdict: SignedValue[Summary]) -> tuple[Reason, ...]:
    return tuple(Reason.model_validate(each) for each in verdict.value.cscm.reasons)
