"""rescan: what is known by now of an image that lies in the curated repository, and what that changes.

An image is done when signed evidence says so: its last report is what a scan would say now and will not be too
old before the next rescans, and the last verdict of curation's gate rests on what is verified of it now, on the policy
of today, and on what was said last of it and of its bases. Whatever is missing of this is made, in this order; so a
run that was killed is gone on with by the next. That tells of it too: what it compares with is what was said when last
it was told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Protocol

from supply_chain.concurrency import side_by_side
from supply_chain.curation.scan import Attacher, keep, list_contents
from supply_chain.errors import ClockWrong, EvidenceInvalid
from supply_chain.evidence.provenance import Provenance, last_provenance
from supply_chain.evidence.reading import Said
from supply_chain.evidence.sbom import Listed, last_listed
from supply_chain.evidence.standing import Act, read_standing, rulings, standing
from supply_chain.evidence.statement import VULNERABILITIES, Evidence
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, verdicts
from supply_chain.model.image import Digest, Frozen, ImageRef, digest_set
from supply_chain.model.manifest import Limits
from supply_chain.model.tier import Boundary, TierName
from supply_chain.policy.dossier import Layers, kept, upon, with_their_bases
from supply_chain.policy.gate import judge
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.policy.rules import POLICIES
from supply_chain.policy.verdict import Repositories, is_conclusion, record
from supply_chain.policy.verdict import keep as keep_refusal
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import last_report
from supply_chain.vulnerability.scanner import SbomGenerator

EARLY = timedelta(days=2)
"""So long before a report is too old it is made anew: two nights may fail."""
POLICY = POLICIES[Boundary.CURATION]


@dataclass(frozen=True)
class Known:
    """What curation said of an image at some time: its report, and the verdict of its gate."""

    report: Said[Report] | None
    verdict: Said[Summary] | None


@dataclass(frozen=True)
class Kept:
    """An image in the curated repository, and what signed evidence says of it."""

    ref: ImageRef
    built: Provenance | None
    listed: Listed
    last: Known
    told: Known
    """The last verdict when a rescan told of it, where none did yet the first one, and what that rests on."""
    judged: tuple[Said[Summary], ...]
    """Every verdict of curation's gate, the oldest first."""
    verified: frozenset[Digest]
    """What lies beside it and is verified now, but for what curation concluded from it."""
    ruled: frozenset[Digest]
    """The statements by which somebody blocked or unblocked it."""
    blocked: bool

    @property
    def materials(self) -> tuple[Digest, ...]:
        """The images that went into its build."""
        return tuple(digest for digest, _ in self.built.materials) if self.built else ()

    @property
    def limits(self) -> Limits:
        """What its owner accepts; where nobody declared anything, what is so without a word."""
        return self.built.manifest.limits if self.built else Limits()

    def renewed_after(self, now: datetime) -> datetime:
        """A report has to be of a later time: one of this time is too old before long."""
        return now - max(timedelta(days=self.limits.scan_days) - EARLY, timedelta(hours=12))


class Change(Frozen):
    """What curation's gate said of an image before, and says now."""

    before: bool | None
    """None where it had not said anything."""
    after: bool
    reasons: tuple[Reason, ...] = ()

    @property
    def turned(self) -> bool:
        """Whether a yes became a no, or a no a yes."""
        return self.before is not self.after


class News(Change):
    """A change, and the verdict since which the gate says so: it names the change, whoever tells of it and when."""

    since: Digest


@dataclass(frozen=True)
class Concluded:
    """What came of a report."""

    signed: bool
    """Whether it was signed."""
    news: News | None
    """How the verdict differs from the one that was told last, or else from the last one since that said otherwise."""
    change: Change | None
    """How the verdict differs from the one that was told last."""
    passes: bool
    """Whether the gate says yes now. To what is blocked it says no."""


class Registry(Attacher, Protocol):
    """What is asked of the registry."""

    def content(self, referrer: ImageRef) -> bytes: ...


def look(
    ref: ImageRef,
    generator: SbomGenerator,
    registry: Registry,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
    told: datetime | None = None,
) -> Kept:
    """What evidence says of an image. One that has no SBOM gets one, made and signed as `scan` does it.

    `told` is when a rescan last told what it found; without it, all that is signed counts as told.
    """
    found = _read(ref, evidence, told)
    if found is None or found.listed.examination is None:
        keep(*list_contents(ref, generator), ref, registry=registry, evidence=evidence, now=now)
        found = _read(ref, evidence, told)
    if found is None:
        raise EvidenceInvalid(
            f"The SBOM of {ref} was signed and attached just now, and cannot be read back.\n"
            "Look at who else writes to the repository, and at the tier's trusted keys; then run the rescan again."
        )
    return found


def _read(ref: ImageRef, evidence: EvidenceStore, told: datetime | None) -> Kept | None:
    """None where there is no SBOM."""
    reading = evidence.read(ref)
    own, development = reading.by(TierName.CURATION), reading.by(TierName.DEVELOPMENT)
    listed = last_listed(own)
    if listed is None:
        return None
    judged, report = verdicts(own, Boundary.CURATION, ref.digest), last_report(own)
    last = next(reversed(judged), None)
    known = next((each for each in reversed(judged) if told is None or each.at <= told), next(iter(judged), None))
    said = read_standing(ref, evidence).evidence
    return Kept(
        ref=ref,
        built=last_provenance(development),
        listed=listed,
        last=Known(report, last),
        told=Known(_ground(known, report, own), known),
        judged=judged,
        verified=frozenset(e.digest for e in (*development, *own) if not is_conclusion(e, TierName.CURATION)),
        ruled=_of_blocks(said),
        blocked=standing(said).block is not None,
    )


def _of_blocks(evidence: Iterable[Evidence]) -> frozenset[Digest]:
    """The statements by which somebody blocked or unblocked something."""
    return frozenset(each.evidence.digest for each in rulings(evidence) if each.value.act in (Act.BLOCK, Act.UNBLOCK))


def _ground(verdict: Said[Summary] | None, last: Said[Report] | None, own: Iterable[Evidence]) -> Said[Report] | None:
    """The report that a verdict rests on, mostly the last. One that was signed and not judged by was told by nobody."""
    inputs = _inputs(verdict) if verdict else frozenset()
    if last is not None and last.evidence.digest in inputs:
        return last
    return last_report(each for each in own if each.digest in inputs)


Ruled = Mapping[ImageRef, frozenset[Digest] | None]
"""Base → the statements by which somebody blocked or unblocked it; None where they cannot be read."""


def ruled_bases(bases: Iterable[ImageRef], evidence: EvidenceStore) -> Ruled:
    """The bases that somebody blocked or unblocked, or one that they are built on: a verdict about what is built on
    them has to rest on that.

    Of one of which that cannot be read nobody knows: whatever is built on it is judged, and told with the reason.
    """
    asked = tuple(bases)

    def ruled(base: ImageRef) -> frozenset[Digest] | None:
        try:
            below = with_their_bases([base], asked, evidence)
            return _of_blocks(each for one in below for each in read_standing(one, evidence).evidence)
        except (EvidenceInvalid, ClockWrong):
            return None

    found = zip(asked, side_by_side(ruled, asked), strict=True)
    return {base: said for base, said in found if said is None or said}


def conclude(
    image: Kept,
    report: Report,
    evidence: EvidenceStore,
    repositories: Repositories,
    layers: Layers,
    bases: Sequence[ImageRef],
    ruled: Ruled,
    now: Callable[[], datetime],
) -> Concluded:
    """Sign what is new about an image, and judge it anew where its last verdict does not rest on what is known now.

    `report` may be the one that is signed. A report that finds the same is not signed again before the signed
    one has to be renewed. `bases` are all that there are, `ruled` is what `ruled_bases` gives.
    What is blocked is not judged: every gate says no to it until somebody unblocks it, and a signed no would stay.
    """
    signed = image.last.report is None or _new(image, image.last.report.value, report, now())
    if signed:
        evidence.attach(image.ref, VULNERABILITIES, report.predicate(), now())
    if image.blocked:
        return Concluded(signed, news=None, change=None, passes=False)
    if (
        image.last.verdict
        and not signed
        and _rests_on(image.last.verdict, image, _ruled(image, ruled, layers, evidence))
    ):
        reasons, given = _reasons(image.last.verdict), image.last.verdict.evidence.digest
    else:
        dossier = kept(image.ref, evidence, layers, bases)
        verdict = judge(dossier, POLICY)
        if isinstance(verdict, Refused):
            reasons, given = verdict.reasons, keep_refusal(verdict, dossier, repositories, evidence, now())
        else:
            reasons, given = (), record(verdict, dossier, evidence, now())
    change = _change(image.told.verdict, reasons)
    differs = change or _turned_back(image, reasons)
    news = News(**differs.model_dump(), since=_since(image.judged, reasons, given)) if differs else None
    return Concluded(signed, news=news, change=change, passes=not reasons)


def _new(image: Kept, signed: Report, report: Report, now: datetime) -> bool:
    return report != signed and (
        not report.says_the_same_as(signed) or signed.scanned < image.renewed_after(now) <= report.scanned
    )


def _ruled(image: Kept, ruled: Ruled, layers: Layers, evidence: EvidenceStore) -> tuple[frozenset[Digest] | None, ...]:
    """What was said of the bases that went into an image, as its build says or its layers show; None for what nobody
    can tell."""
    below = upon(image.ref, tuple(ruled), layers, evidence)[0] if ruled else ()
    return tuple(said for base, said in ruled.items() if base in below or base.digest in image.materials)


def _rests_on(verdict: Said[Summary], image: Kept, of_bases: Collection[frozenset[Digest] | None]) -> bool:
    """Whether the verdict was given on all that is verified of the image now and on nothing that no longer is, by the
    policy of today, and on what was said of the image and of its bases."""
    inputs = _inputs(verdict)
    return (
        verdict.value.policy.digest == digest_set(POLICY.digest)
        and _inputs(verdict, beside=f"{image.ref.repository}@") == image.verified
        and all(each is not None and each <= inputs for each in (image.ruled, *of_bases))
    )


def _inputs(verdict: Said[Summary], beside: str = "") -> frozenset[Digest]:
    """The statements that a verdict rests on, by the digests of what holds them; all, or those of one place."""
    named = (each for each in verdict.value.input_attestations if each.uri.startswith(beside))
    return frozenset(f"sha256:{each.digest.get('sha256')}" for each in named)


def _change(before: Said[Summary] | None, reasons: tuple[Reason, ...]) -> Change | None:
    """None where the gate says what it said before."""
    if before is not None and _reasons(before) == reasons:
        return None
    return Change(before=before.value.passed if before else None, after=not reasons, reasons=reasons)


def _turned_back(image: Kept, reasons: tuple[Reason, ...]) -> Change | None:
    """How the verdict differs from the last one since what was told last, where it says that again: the turn away from
    it may have been heard, and the turn back not."""
    after = takewhile(lambda each: each is not image.told.verdict, reversed(image.judged))
    return next((change for each in after if (change := _change(each, reasons))), None)


def _since(judged: Sequence[Said[Summary]], reasons: tuple[Reason, ...], given: Digest) -> Digest:
    """The verdict since which the gate says so: its last one, or the first of those before that said the same."""
    for each in reversed(judged):
        if _change(each, reasons):
            break
        given = each.evidence.digest
    return given


def _reasons(verdict: Said[Summary]) -> tuple[Reason, ...]:
    return tuple(Reason.model_validate(each) for each in verdict.value.cscm.reasons)
