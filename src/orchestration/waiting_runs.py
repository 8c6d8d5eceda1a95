"""Lets a run wait without using a slot of its work queue."""

from __future__ import annotations

import math
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.runtime import deployment, flow_run
from prefect.states import Scheduled

from orchestration.clock import now

SOON = 3.0
"""Seconds for which a run waits while it uses a slot of the work queue."""
RETRY_AFTER, LONGEST_RETRY = timedelta(seconds=20), timedelta(minutes=2)
"""Time after which a worker takes up a waiting run again the first time, and at most."""
WAITING = "Waiting"
"""Name of the state of a waiting run. Such a run is Scheduled, has no process, and never becomes Late."""


def can_wait() -> bool:
    """Return whether this run can wait without a process: a worker takes it up again, but a command does not."""
    return bool(deployment.id)


async def run_age() -> float:
    """Return the seconds since this run was created, by the clocks of Prefect's server and of this machine."""
    async with get_client() as client:
        created = (await client.read_flow_run(UUID(flow_run.id))).created
    return (now() - created).total_seconds() if created else math.inf


def find_pause() -> timedelta:
    """Return how long this run waits.

    Each time it waits `RETRY_AFTER` longer, because each attempt takes a slot for some seconds: hundreds of waiting
    runs of one team would leave none to others.
    """
    return min(RETRY_AFTER * max(1, flow_run.run_count or 0), LONGEST_RETRY)


async def release_slot(why: str) -> Pause:
    """Schedule this run again; the caller raises the returned exception."""
    state: State[object] = Scheduled(scheduled_time=now() + find_pause(), name=WAITING, message=why)
    async with get_client() as client:
        answer = await client.set_flow_run_state(UUID(flow_run.id), state)
    return Pause(state=answer.state)
