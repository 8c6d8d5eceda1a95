"""A verdict kept: signed by the tier that gives it, where that tier may write."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from supply_chain.evidence.statement import SIGNATURE, SUMMARY, Evidence
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import latest_of, summary
from supply_chain.image import Digest, ImageRef
from supply_chain.policy.gate import Dossier
from supply_chain.policy.outcome import Admitted, Refused

T = TypeVar("T")


def record(
    verdict: Admitted[T] | Refused, dossier: Dossier[Any], where: ImageRef, store: EvidenceStore, now: datetime
) -> Digest:
    """Attach the verdict about `dossier.ref` to `where`, the same digest in a repository of the judge's own.

    Where the last verdict there says the same on the same evidence, that one stands.
    """
    predicate = summary(
        dossier.ref,
        verdict.boundary,
        verdict.policy,
        reasons=[r.model_dump() for r in verdict.reasons] if isinstance(verdict, Refused) else [],
        notes=verdict.notes,
        inputs=[e for e in dossier.evidence if not _own(e, store)],
        now=now,
    )
    before = [e for e in store.verified(where, store.tier) if e.predicate_type == SUMMARY]  # all has to be readable
    last = latest_of([e.predicate for e in before], verdict.boundary, dossier.ref.digest)
    if last is not None and _undated(last) == _undated(predicate):
        return next(e.digest for e in before if e.predicate is last)
    return store.attach(where, SUMMARY, predicate, now)


def _own(evidence: Evidence, store: EvidenceStore) -> bool:
    """What the judge itself concluded before is no ground for its verdict."""
    return evidence.signer == store.tier and evidence.predicate_type in (SUMMARY, SIGNATURE)


def _undated(predicate: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in predicate.items() if key != "timeVerified"}
