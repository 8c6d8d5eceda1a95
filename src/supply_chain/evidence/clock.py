"""The time of a statement, which is part of the signed content."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from supply_chain.errors import ClockWrong
from supply_chain.evidence.statement import (
    APPROVAL,
    BREAK_GLASS,
    DEPLOYMENT,
    ENCRYPTION,
    ISOLATION,
    LIFECYCLE,
    PROVENANCE,
    SBOM,
    SOAK,
    SUMMARY,
    TEST_RESULT,
    VULNERABILITIES,
    Statement,
    VerifiedStatement,
)

SKEW = timedelta(minutes=5)
"""Maximum difference between the clocks of two tiers; AWS allows the same for a signature."""
INSTANT = timedelta(microseconds=1)
"""The shortest difference between the times of two statements."""
WHERE: Mapping[str, tuple[str, ...]] = {
    PROVENANCE: ("runDetails", "metadata", "finishedOn"),
    TEST_RESULT: ("cscm", "interval", "finished"),
    VULNERABILITIES: ("cscm", "scanned"),
    SBOM: ("created",),
    SUMMARY: ("timeVerified",),
    ENCRYPTION: ("verified",),
    DEPLOYMENT: ("deployedAt",),
    SOAK: ("until",),
    APPROVAL: ("decided",),
    BREAK_GLASS: ("at",),
    ISOLATION: ("at",),
    LIFECYCLE: ("at",),
}
"""Predicate type → the keys in the predicate that lead to the time by which the newest statement is found."""
TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def read_signed_time(statement: Statement) -> datetime | None:
    """Return when a statement was made if the time has the format that we write (RFC 3339), otherwise None."""
    value = _read_time(statement)
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        return at if at and at.tzinfo else None
    return None


def _read_time(statement: Statement) -> Any:
    value: Any = statement.predicate
    try:
        for key in WHERE[statement.predicate_type]:
            value = value[key]
    except (KeyError, TypeError):
        return None
    return value


def find_statement_time(statement: Statement) -> datetime | None:
    """Return when a statement was made, in any format that a signer may use; None if nothing can be read as a time.

    Errors in the rest of the statement are left to the code that reads it.
    """
    value = _read_time(statement)
    for read in (TIME.validate_python, datetime.fromisoformat):
        with contextlib.suppress(ValidationError, ValueError, TypeError):
            at: datetime = read(value)
            return at if at.tzinfo else None
    return None


def refuse_the_future(evidence: Iterable[VerifiedStatement], now: datetime) -> None:
    """Raise `ClockWrong` for a signed statement whose time is in the future.

    The newest statement counts. One with a future time would count until then, whatever is signed meanwhile. Leaving it
    out is no alternative, because it can be a refusal.
    """
    for each in evidence:
        at = find_statement_time(each.statement)
        if at is not None and at > now + SKEW:
            raise ClockWrong(
                f"{each.signer} signed {each.repository}@{each.digest} ({each.predicate_type}) at "
                f"{at:%Y-%m-%d %H:%M:%S %Z}, which is in the future: this machine's time is "
                f"{now:%Y-%m-%d %H:%M:%S %Z}.\n"
                "The clock of that tier or of this machine is wrong, so the newest evidence is unknown. Set both; "
                "where that tier's was wrong, an administrator removes the statement, and it is made again."
            )
