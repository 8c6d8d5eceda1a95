"""Functions that read signed statements as typed values, ordered by their signed time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar

from pydantic import ValidationError

from supply_chain.errors import EvidenceInvalid, ImageNotFound
from supply_chain.evidence.clock import read_signed_time
from supply_chain.evidence.statement import LOOK_AT_IT, SIGNATURE, VerifiedStatement
from supply_chain.model.image import Proof
from supply_chain.model.tier import TierName

P = TypeVar("P")
R = TypeVar("R")
A = ParamSpec("A")
TRIES = 4
"""Maximum number of times that a list is read while what it names is removed or replaced."""


def read_again_if_removed(read: Callable[A, R]) -> Callable[A, R]:
    """Let a function that reads a list, and then what it names, begin again if something was removed in between."""

    @wraps(read)
    def read_again(*args: A.args, **kwargs: A.kwargs) -> R:
        for _ in range(TRIES - 1):
            with suppress(ImageNotFound):
                return read(*args, **kwargs)
        return read(*args, **kwargs)

    return read_again


@dataclass(frozen=True)
class SignedValue(Generic[P]):
    """The typed content of one verified statement, with the time in the signed content."""

    value: P
    at: datetime
    evidence: VerifiedStatement


def read_statements(
    evidence: Iterable[VerifiedStatement], predicate_type: str, read: Callable[[dict[str, Any]], P]
) -> tuple[SignedValue[P], ...]:
    """Return the statements of a type as typed values, oldest first.

    Raise `EvidenceInvalid` for one that cannot be read or has no time: it may be the newest, and may be a refusal.
    """
    return tuple(SignedValue(_read(each, read), at, each) for at, each in _dated(evidence, predicate_type))


def read_newest_statement(
    evidence: Iterable[VerifiedStatement], predicate_type: str, read: Callable[[dict[str, Any]], P]
) -> SignedValue[P] | None:
    """Return the newest statement of a type as a typed value, or None; the older ones need not be readable.

    Raise `EvidenceInvalid` if the newest cannot be read, or if any has no time.
    """
    statements = _dated(evidence, predicate_type)
    return SignedValue(_read(statements[-1][1], read), *statements[-1]) if statements else None


def _dated(evidence: Iterable[VerifiedStatement], predicate_type: str) -> list[tuple[datetime, VerifiedStatement]]:
    """Return the evidence of a type with its times, oldest first."""
    statements = ((_at(each), each) for each in evidence if each.predicate_type == predicate_type)
    return sorted(statements, key=lambda pair: pair[0])


def _at(evidence: VerifiedStatement) -> datetime:
    at = read_signed_time(evidence.statement)
    if at is None:
        raise make_unreadable_error(evidence, "it does not say when it was made")
    return at


def _read(evidence: VerifiedStatement, read: Callable[[dict[str, Any]], P]) -> P:
    try:
        return read(evidence.predicate)
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise make_unreadable_error(evidence, _first(error)) from error


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def make_unreadable_error(evidence: VerifiedStatement, why: str) -> EvidenceInvalid:
    """Return the error for a statement that a tier signed and that cannot be read."""
    return EvidenceInvalid(
        f"{evidence.signer} signed {evidence.repository}@{evidence.digest} ({evidence.predicate_type}), "
        f"which cannot be read: {why[:500]}\n{LOOK_AT_IT}"
    )


def is_signed(evidence: Iterable[VerifiedStatement]) -> bool:
    """Return whether the evidence contains curation's signature of the image, which says that it may be used."""
    return any(e.predicate_type == SIGNATURE and e.signer == TierName.CURATION for e in evidence)


def make_proof(evidence: Sequence[VerifiedStatement]) -> Proof | None:
    """Return the proof that the evidence gives; None without evidence."""
    if not evidence:
        return None
    times = [e.attached for e in evidence if e.attached]
    return Proof(evidence=tuple(e.digest for e in evidence), since=min(times) if len(times) == len(evidence) else None)
