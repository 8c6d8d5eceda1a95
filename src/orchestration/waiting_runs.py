"""Lets a run wait without using a slot of its work queue."""

from __future__ import annotations

import math
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.runtime import deployment, flow_run
from prefect.states import Scheduled

from orchestration.clock import now

SOON = 3.0
"""Seconds for which a run waits while it uses a slot of the work queue."""
RETRY_AFTER, LONGEST_RETRY = timedelta(seconds=20), timedelta(minutes=2)
"""Time after which a worker takes up a waiting run again the first time, and at most if no others wait."""
BETWEEN = timedelta(seconds=10)
"""Time between two attempts of the runs that wait for one lock, on average."""
LONGEST_PAUSE = timedelta(hours=1)
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


def find_pause(others: int) -> timedelta:
    """Return how long this run waits while `others` wait for the same lock.

    Each attempt takes a slot for seconds, and hundreds of waiting runs of one team would leave none to others. So each
    time it waits `RETRY_AFTER` longer, and long enough for the others' attempts to be `BETWEEN` apart.
    """
    longer = min(RETRY_AFTER * max(1, flow_run.run_count or 0), LONGEST_RETRY)
    return min(max(longer, BETWEEN * others), LONGEST_PAUSE)


async def count_waiting(lock: str) -> int:
    """Return how many runs wait for a lock without a slot."""
    async with get_client() as client:
        return await client.count_flow_runs(
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=[lock]),
                state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[WAITING])),
            )
        )


async def release_slot(why: str, lock: str = "") -> Pause:
    """Schedule this run again; the caller raises the returned exception.

    `lock` is the one for which it waits. It becomes a tag of the run.
    """
    others = await count_waiting(lock) if lock else 0
    state: State[object] = Scheduled(scheduled_time=now() + find_pause(others), name=WAITING, message=why)
    async with get_client() as client:
        if lock:
            await client.update_flow_run(UUID(flow_run.id), tags=sorted({*flow_run.tags, lock}))
        answer = await client.set_flow_run_state(UUID(flow_run.id), state)
    return Pause(state=answer.state)
