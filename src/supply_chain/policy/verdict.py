"""A verdict kept: signed by the tier that gives it, where that tier may write."""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import Any, Protocol, TypeVar

from supply_chain.errors import GateOvertaken
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.reading import Said
from supply_chain.evidence.statement import SIGNATURE, SUMMARY, Evidence
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, last_verdict, summary, verdicts, verifier
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.tier import Boundary, TierName, curated_repository, evidence_repository
from supply_chain.policy.gate import Dossier, Policy, judge
from supply_chain.policy.outcome import Admitted, Refused

T = TypeVar("T")


def verdict_places(ref: ImageRef, boundary: Boundary, *, admitted: bool) -> tuple[ImageRef, ...]:
    """Where a gate's verdict about an image lies: beside the image, where that is the judge's own by then.

    What a tier says of an image that is not its own lies in its repository for evidence. So does each no of
    curation, for the lifecycle may remove what lies beside an image, and nobody what lies there.
    """
    beside = ref.moved_to(curated_repository(ref.application))
    if boundary is Boundary.TO_EXECUTION:
        return (execution_place(ref),)
    if admitted:
        return (beside,)
    return (refusals_place(ref),) if boundary is Boundary.TO_CURATION else (beside, refusals_place(ref))


def refusals_place(ref: ImageRef) -> ImageRef:
    """Where every no lies that curation says of an image."""
    return ref.moved_to(evidence_repository(TierName.CURATION, ref.application))


def execution_place(ref: ImageRef) -> ImageRef:
    """Where everything lies that execution says of an image: verdicts, deployments, soaks, people's decisions."""
    return ref.moved_to(evidence_repository(TierName.EXECUTION, ref.application))


class Repositories(Protocol):
    """Makes repositories."""

    def ensure_repository(self, repository: str, *, immutable: bool, key: str | None) -> None:
        """Make it, if it is not there."""


def decide(
    dossier: Dossier[T], policy: Policy, repositories: Repositories, store: EvidenceStore, now: datetime
) -> Admitted[T] | Refused:
    """Judge, and keep a refusal; an admission is kept by the step that it lets happen."""
    verdict = judge(dossier, policy)
    if isinstance(verdict, Refused):
        keep(verdict, dossier, repositories, store, now)
    return verdict


def keep(
    refusal: Refused, dossier: Dossier[Any], repositories: Repositories, store: EvidenceStore, now: datetime
) -> Digest:
    """Record a refusal, also where its repository has to be made first."""
    for where in verdict_places(dossier.ref, refusal.boundary, admitted=False):
        if where != dossier.ref:
            repositories.ensure_repository(where.repository, immutable=True, key=None)
    return record(refusal, dossier, store, now)


def record(verdict: Admitted[T] | Refused, dossier: Dossier[Any], store: EvidenceStore, now: datetime) -> Digest:
    """Attach the verdict about `dossier.ref` in its places, whose repositories are there; its digest in the first.

    Where the gate's last verdict, in any place, says the same on the same evidence, that one stands. A new
    one is of a later time than the last, whatever the clock says: otherwise it would not be heard. `GateOvertaken`
    where it is a yes and curation's own gate said no since the dossier was read: that would outweigh it.
    """
    places = {place for yes in (True, False) for place in verdict_places(dossier.ref, verdict.boundary, admitted=yes)}
    before = {place: store.verified(place, store.tier) for place in sorted(places, key=str)}
    last = last_verdict(chain.from_iterable(before.values()), verdict.boundary, dossier.ref.digest)
    if isinstance(verdict, Admitted) and last is not None and _overtaken(dossier, last):
        raise GateOvertaken(
            f"{dossier.ref} was refused at {verdict.boundary} after this run had read its evidence.\n"
            "Run the same again: it is judged by what is known now."
        )
    said = summary(
        dossier.ref,
        verdict.boundary,
        verdict.policy,
        reasons=[r.model_dump() for r in verdict.reasons] if isinstance(verdict, Refused) else [],
        notes=verdict.notes,
        levels=dossier.levels,
        inputs=[e for e in dossier.evidence if not is_conclusion(e, store.tier)],
        now=max(now, last.at + INSTANT) if last else now,
        environment=dossier.place.name if dossier.place else "",
    )
    words = last.evidence.predicate if last is not None and last.value.says_the_same_as(said) else said.predicate()

    def kept(place: ImageRef) -> Digest:  # one that stands is in all its places, whatever ended the run that began it
        known = verdicts(before[place], verdict.boundary, dossier.ref.digest)
        there = (each.evidence.digest for each in known if each.evidence.predicate == words)
        return next(there, None) or store.attach(place, SUMMARY, words, now)

    where = verdict_places(dossier.ref, verdict.boundary, admitted=isinstance(verdict, Admitted))
    return [kept(place) for place in reversed(where)][-1]


def _overtaken(dossier: Dossier[Any], last: Said[Summary]) -> bool:
    """Whether the last verdict is a no that the dossier does not know. Only curation's own gate has its own in it."""
    known = {each.digest for each in dossier.evidence}
    ours = last.value.verifier.id == verifier(Boundary.CURATION)
    return ours and not last.value.passed and last.evidence.digest not in known


def is_conclusion(evidence: Evidence, judge: TierName) -> bool:
    """Whether the judge itself concluded it before: that is no ground for its verdict."""
    return evidence.signer == judge and evidence.predicate_type in (SUMMARY, SIGNATURE)
