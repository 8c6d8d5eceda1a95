"""When a statement was made, by the time inside of what was signed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from supply_chain.errors import ClockWrong
from supply_chain.evidence.statement import (
    APPROVAL,
    DEPLOYMENT,
    ENCRYPTION,
    LIFECYCLE,
    PROVENANCE,
    SBOM,
    SOAK,
    SUMMARY,
    TEST_RESULT,
    VULNERABILITIES,
    Evidence,
    Statement,
)

SKEW = timedelta(minutes=5)
"""How much the clocks of two tiers may differ; AWS allows a signature as much."""
INSTANT = timedelta(microseconds=1)
"""The shortest time that a statement can tell."""
WHERE: Mapping[str, tuple[str, ...]] = {
    PROVENANCE: ("runDetails", "metadata", "finishedOn"),
    TEST_RESULT: ("cscm", "interval", "finished"),
    VULNERABILITIES: ("cscm", "scanned"),
    SBOM: ("created",),
    SUMMARY: ("timeVerified",),
    ENCRYPTION: ("verified",),
    DEPLOYMENT: ("deployedAt",),
    LIFECYCLE: ("at",),
    SOAK: ("until",),
    APPROVAL: ("decided",),
}
"""Predicate type → where in the predicate the time stands by which the newest of them is told."""
TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def said_at(statement: Statement) -> datetime | None:
    """When it was made, where its signer says it as we write it (RFC 3339); None otherwise."""
    said = _said(statement)
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(said) if isinstance(said, str) else None
        return at if at and at.tzinfo else None
    return None


def _said(statement: Statement) -> Any:
    said: Any = statement.predicate
    try:
        for key in WHERE[statement.predicate_type]:
            said = said[key]
    except (KeyError, TypeError):
        return None
    return said


def made_at(statement: Statement) -> datetime | None:
    """When it was made, however its signer may have written it; None where it says nothing that could be a time.

    What cannot be read is for whoever reads the rest of it to complain of.
    """
    said = _said(statement)
    for read in (TIME.validate_python, datetime.fromisoformat):
        with contextlib.suppress(ValidationError, ValueError, TypeError):
            at: datetime = read(said)
            return at if at.tzinfo else None
    return None


def refuse_the_future(evidence: Iterable[Evidence], now: datetime) -> None:
    """Raise `ClockWrong` for a statement that is signed and of the future.

    The newest statement counts: one of the future would count until then, whatever is said meanwhile. It
    may be a no, so that leaving it out would be no better.
    """
    for each in evidence:
        at = made_at(each.statement)
        if at is not None and at > now + SKEW:
            raise ClockWrong(
                f"{each.signer} signed {each.repository}@{each.digest} ({each.predicate_type}) at "
                f"{at:%Y-%m-%d %H:%M:%S %Z}, and here it is {now:%Y-%m-%d %H:%M:%S %Z}.\n"
                "The clock of that tier or of this machine is wrong, and the newest evidence cannot be told. Set both; "
                "where that tier's was wrong, an administrator removes the statement, and it is made again."
            )
