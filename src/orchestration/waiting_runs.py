"""Lets a run wait without using a slot of its work queue."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.runtime import deployment, flow_run
from prefect.states import Scheduled

from orchestration.clock import read_clock

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
    return (read_clock() - created).total_seconds() if created else math.inf


def find_pause(attempts: int) -> timedelta:
    """Return how long a run waits after so many attempts: each takes a slot for seconds."""
    return min(RETRY_AFTER * max(1, attempts), LONGEST_RETRY)


async def release_slot(why: str) -> Pause:
    """Schedule this run again; the caller raises the returned exception."""
    async with get_client() as client:
        run = await client.read_flow_run(UUID(flow_run.id))
        pause = find_pause(run.run_count)
        state: State[Any] = Scheduled(scheduled_time=read_clock() + pause, name=WAITING, message=why)
        return Pause(state=(await client.set_flow_run_state(run.id, state)).state)
