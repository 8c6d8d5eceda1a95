"""A verdict kept: signed by the tier that gives it, where that tier may write."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from supply_chain.evidence.statement import SUMMARY
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import summary
from supply_chain.image import Digest, ImageRef
from supply_chain.policy.gate import Dossier
from supply_chain.policy.outcome import Admitted, Refused

T = TypeVar("T")


def record(
    verdict: Admitted[T] | Refused, dossier: Dossier[Any], where: ImageRef, store: EvidenceStore, now: datetime
) -> Digest:
    """Attach the verdict about `dossier.ref` to `where`, the same digest in a repository of the judge's own."""
    predicate = summary(
        dossier.ref,
        verdict.boundary,
        verdict.policy,
        reasons=[r.model_dump() for r in verdict.reasons] if isinstance(verdict, Refused) else [],
        notes=() if isinstance(verdict, Refused) else verdict.notes,
        inputs=dossier.evidence,
        now=now,
    )
    return store.attach(where, SUMMARY, predicate, now)
