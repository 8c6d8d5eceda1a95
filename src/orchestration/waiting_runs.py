"""Lets a run wait without using a slot of its work queue."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State
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


def find_pause(attempts: int, others: int) -> timedelta:
    """Return how long a run waits after so many attempts, while `others` wait for the same lock.

    Each attempt takes a slot for seconds, and hundreds of waiting runs of one team would leave none to others. So each
    time a run waits `RETRY_AFTER` longer, and long enough for the others' attempts to be `BETWEEN` apart.
    """
    longer = min(RETRY_AFTER * max(1, attempts), LONGEST_RETRY)
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


async def keep_waiting(client: PrefectClient, run: FlowRun, why: str, lock: str, others: int) -> State[Any] | None:
    """Schedule a run again that waits for a lock as `others` do, and return its state. The lock becomes a tag."""
    pause = find_pause(run.run_count, others)
    if lock and lock not in run.tags:
        await client.update_flow_run(run.id, tags=[*run.tags, lock])
    state: State[Any] = Scheduled(scheduled_time=now() + pause, name=WAITING, message=why)
    return (await client.set_flow_run_state(run.id, state)).state


async def release_slot(why: str, lock: str = "") -> Pause:
    """Schedule this run again; the caller raises the returned exception. `lock` is the one for which it waits."""
    others = await count_waiting(lock) if lock else 0
    async with get_client() as client:
        run = await client.read_flow_run(UUID(flow_run.id))
        return Pause(state=await keep_waiting(client, run, why, lock, others))
