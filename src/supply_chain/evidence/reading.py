"""Signed statements read as the model's own values, and what to say of those that a step rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import SIGNATURE, UNREADABLE, Evidence
from supply_chain.image import Proof
from supply_chain.tier import TierName

P = TypeVar("P")


def is_signed(evidence: Iterable[Evidence]) -> bool:
    """Whether curation's signature of the image is among the evidence: the one that says that it may be used."""
    return any(e.predicate_type == SIGNATURE and e.signer == TierName.CURATION for e in evidence)


def parsed(parse: Callable[[], P], what: str) -> P:
    """What `parse` makes of a signed statement; `EvidenceInvalid` where it is not what it should be."""
    try:
        return parse()
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceInvalid(f"A signed {what} cannot be read: {str(error)[:500]}\n{UNREADABLE}") from error


def proof(evidence: Sequence[Evidence]) -> Proof | None:
    """The proof that evidence is; None where there is none."""
    if not evidence:
        return None
    times = [e.attached for e in evidence if e.attached]
    return Proof(evidence=tuple(e.digest for e in evidence), since=min(times) if len(times) == len(evidence) else None)
