"""A verdict kept: signed by the tier that gives it, where that tier may write."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol, TypeVar

from supply_chain.errors import GateOvertaken
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.reading import Said
from supply_chain.evidence.statement import SIGNATURE, SUMMARY, Evidence
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, last_verdict, summary, verifier
from supply_chain.image import Digest, ImageRef
from supply_chain.policy.gate import Dossier, Policy, judge
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.tier import Boundary, TierName, curated_repository, evidence_repository

T = TypeVar("T")


def verdict_place(ref: ImageRef, boundary: Boundary, *, admitted: bool) -> ImageRef:
    """Where a gate's verdict about an image lies: beside the image, where that is the judge's own by then.

    What a tier says of an image that is not its own lies in its repository for evidence.
    """
    if boundary is Boundary.TO_EXECUTION:
        return ref.moved_to(evidence_repository(TierName.EXECUTION, ref.application))
    if boundary is Boundary.TO_CURATION and not admitted:
        return ref.moved_to(evidence_repository(TierName.CURATION, ref.application))
    return ref.moved_to(curated_repository(ref.application))


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
        where = verdict_place(dossier.ref, policy.boundary, admitted=False)
        if where != dossier.ref:
            repositories.ensure_repository(where.repository, immutable=True, key=None)
        record(verdict, dossier, store, now)
    return verdict


def record(verdict: Admitted[T] | Refused, dossier: Dossier[Any], store: EvidenceStore, now: datetime) -> Digest:
    """Attach the verdict about `dossier.ref` in its place, of which the repository is there.

    Where the gate's last verdict, in either place, says the same on the same evidence, that one stands. A new
    one is of a later time than the last, whatever the clock says: otherwise it would not be heard. `GateOvertaken`
    where it is a yes and curation's own gate said no since the dossier was read: that would outweigh it.
    """
    where = verdict_place(dossier.ref, verdict.boundary, admitted=isinstance(verdict, Admitted))
    places = {verdict_place(dossier.ref, verdict.boundary, admitted=yes) for yes in (True, False)}
    before = [e for place in sorted(places, key=str) for e in store.verified(place, store.tier)]
    last = last_verdict(before, verdict.boundary, dossier.ref.digest)
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
        inputs=[e for e in dossier.evidence if not _own(e, store)],
        now=max(now, last.at + INSTANT) if last else now,
    )
    if last is not None and last.value.says_the_same_as(said):
        return last.evidence.digest
    return store.attach(where, SUMMARY, said.predicate(), now)


def _overtaken(dossier: Dossier[Any], last: Said[Summary]) -> bool:
    """Whether the last verdict is a no that the dossier does not know. Only curation's own gate has its own in it."""
    known = {each.digest for each in dossier.evidence}
    ours = last.value.verifier.id == verifier(Boundary.CURATION)
    return ours and not last.value.passed and last.evidence.digest not in known


def _own(evidence: Evidence, store: EvidenceStore) -> bool:
    """What the judge itself concluded before is no ground for its verdict."""
    return evidence.signer == store.tier and evidence.predicate_type in (SUMMARY, SIGNATURE)
