"""Soaking: how long an application has been well in an environment without a break, as monitor saw it.

One look says how it is now. That it was well throughout is told by the looks before: each found the same
container, started once, without a deviation, and none came more than `GAP` after the one before. A container
that ended in between was started again, which shows in its restarts and its start; one that was only unwell
between two looks and is well again is not seen. So the time between two looks is how exact this is.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import AwareDatetime

from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.soak import Soak, last_soak
from supply_chain.evidence.statement import SOAK
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.monitor import Observation
from supply_chain.model.image import Digest, Frozen, ImageRef
from supply_chain.policy.verdict import execution_place

GAP = timedelta(minutes=15)
"""The longest time without a look; monitor looks every five minutes."""


class Soaking(Frozen):
    """What is remembered from look to look of one application in one environment."""

    digest: Digest
    container: str
    started_at: AwareDatetime | None
    since: AwareDatetime
    last: AwareDatetime
    looks: int
    told: int = 0
    """Of how long a soak was signed, in seconds that were asked for; 0 where none was."""


def watched(before: Soaking | None, seen: Observation) -> Soaking | None:
    """What is remembered after another look; None where it was not well, so that the next one begins anew.

    Whoever may log in to Prefect may change what is remembered: nothing was well before it was started.
    """
    if not seen.healthy or seen.deviations or seen.restarts or not seen.wanted or seen.running != seen.wanted:
        return None
    same = (
        before is not None
        and (before.digest, before.container, before.started_at) == (seen.wanted, seen.container, seen.started_at)
        and before.last <= seen.at <= before.last + GAP
        and (seen.started_at is None or before.since >= seen.started_at - SKEW)
    )
    if before is not None and same:
        return before.model_copy(update={"last": seen.at, "looks": before.looks + 1})
    return Soaking(
        digest=seen.wanted, container=seen.container, started_at=seen.started_at, since=seen.at, last=seen.at, looks=1
    )


def soaked(soaking: Soaking, environment: str, seconds: int | None) -> Soak | None:
    """The soak that is over and was not told yet; None where the environment asks for none, or it still goes on.

    An environment that asks for more than before is told again, when that is over.
    """
    if seconds is None or soaking.told >= seconds or (soaking.last - soaking.since).total_seconds() < seconds:
        return None
    return Soak(
        environment=environment,
        digest=soaking.digest,
        container=soaking.container,
        since=soaking.since,
        until=soaking.last,
        looks=soaking.looks,
        asked=seconds,
    )


def sign(over: Soak, ref: ImageRef, evidence: EvidenceStore) -> bool:
    """Sign a soak that is over; false where one of the same container is signed that is as long as is asked for."""
    where = execution_place(ref)
    known = last_soak(evidence.verified(where, evidence.tier, SOAK), over.environment, over.digest, over.container)
    if known is not None and known.value.seconds >= over.asked:
        return False
    evidence.attach(where, SOAK, over.predicate(), over.until)
    return True
