"""Signed statements read as the model's own values, and what to say of those that a step rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import UNREADABLE, Evidence
from supply_chain.image import Proof

P = TypeVar("P")


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
