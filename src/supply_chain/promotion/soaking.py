"""Soaking: how long an application has been healthy in an environment without a break, as monitor observed it.

One look shows only the present state. That the application was healthy throughout follows from the looks before: each
found the same container, started once, without a deviation, and at most `GAP` after the look before. A container that
ended in between was started again, which shows in its restarts and its start time. A container that was unhealthy only
between two looks is not noticed, so the time between two looks is the precision.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import AwareDatetime

from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.soak import Soak, find_last_soak
from supply_chain.evidence.statement import SOAK
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.observation import Observation
from supply_chain.model.image import Digest, ImageRef, Model
from supply_chain.policy.verdict import locate_execution_evidence

GAP = timedelta(minutes=15)
"""The longest time without a look; monitor looks every five minutes."""


class Soaking(Model):
    """The state of one application in one environment that is stored from look to look."""

    digest: Digest
    container: str
    started_at: AwareDatetime | None
    since: AwareDatetime
    last: AwareDatetime
    observations: int
    reported: int = 0
    """The required duration of the soak that was signed, in seconds; 0 if none was."""


def continue_soak(before: Soaking | None, look: Observation) -> Soaking | None:
    """Return the state after another look; None if the application was not healthy, so that the next look starts again.

    Anyone who can log in to Prefect can change the stored state, so a soak never counts from before the container's
    start.
    """
    if (
        not look.healthy
        or look.deviations
        or look.restarts
        or not look.expected_digest
        or look.running != look.expected_digest
    ):
        return None
    same = (
        before is not None
        and (before.digest, before.container, before.started_at)
        == (look.expected_digest, look.container, look.started_at)
        and before.last <= look.at <= before.last + GAP
        and (look.started_at is None or before.since >= look.started_at - SKEW)
    )
    if before is not None and same:
        return before.model_copy(update={"last": look.at, "observations": before.observations + 1})
    return Soaking(
        digest=look.expected_digest,
        container=look.container,
        started_at=look.started_at,
        since=look.at,
        last=look.at,
        observations=1,
    )


def find_complete_soak(soaking: Soaking, environment: str, seconds: int | None) -> Soak | None:
    """Return a soak that is complete and not reported yet; None if the environment requires none or it continues.

    If an environment requires more than before, the soak is reported again once that time is over.
    """
    if seconds is None or soaking.reported >= seconds or (soaking.last - soaking.since).total_seconds() < seconds:
        return None
    return Soak(
        environment=environment,
        digest=soaking.digest,
        container=soaking.container,
        since=soaking.since,
        until=soaking.last,
        observations=soaking.observations,
        required_seconds=seconds,
    )


def sign_soak(over: Soak, ref: ImageRef, evidence: EvidenceStore) -> bool:
    """Sign a complete soak; return False if a soak of the same container that is long enough is already signed."""
    where = locate_execution_evidence(ref)
    last = find_last_soak(
        evidence.read_verified(where, evidence.tier, SOAK), over.environment, over.digest, over.container
    )
    if last is not None and last.value.seconds >= over.required_seconds:
        return False
    evidence.attach(where, SOAK, over.predicate(), over.until)
    return True
