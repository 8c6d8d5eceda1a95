"""pushes: of many pushes of one branch one chain works, and none waits in a place of the work queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import Pause
from prefect.runtime import deployment, flow_run
from prefect.states import Scheduled

from orchestration.clock import now
from orchestration.pagination import every

SOON = 3.0
"""Seconds for which a run waits in its place of the work queue for its application."""
AGAIN = timedelta(seconds=20)
"""After this long it is taken up again."""
WAITING = "Waiting"
"""The name of the state in which it waits. Such a run is Scheduled, has no process, and is never Late."""
SKEW = timedelta(minutes=1)
COUNTS = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
"""States of a run that builds its revision, did, or will. One that failed or was cancelled stands for no other."""


def may_wait() -> bool:
    """Whether this run can wait without a process: a worker takes it up again. One that a command runs cannot."""
    return bool(deployment.id)


async def later_push(path: str, ref: str, pushed: str) -> FlowRun | None:
    """The run for a later push of the same ref, which stands for this run's; None where there is none.

    Later is what the hook's clock and Prefect's server both call so: where they differ, each push is built.
    """
    if not (deployment.id and flow_run.id and ref and pushed):
        return None
    async with get_client() as client:
        this = await client.read_flow_run(UUID(flow_run.id))
        if this.created is None:
            return None
        found = await every(
            client.read_flow_runs,
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[UUID(deployment.id)]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=COUNTS)),
                expected_start_time=FlowRunFilterExpectedStartTime(after_=this.created - SKEW),
            ),
        )
    return next((run for run in found if _is_later(run, this, path, ref, pushed)), None)


def _is_later(run: FlowRun, this: FlowRun, path: str, ref: str, pushed: str) -> bool:
    if run.created is None or this.created is None or run.created <= this.created:
        return False
    given = run.parameters
    theirs, mine = _moment(given.get("pushed")), _moment(pushed)
    return (given.get("path"), given.get("ref")) == (path, ref) and bool(theirs and mine and theirs > mine)


def _moment(said: object) -> datetime | None:
    """When a push was, as its event says; None where that says nothing, so that it neither stands for others nor is
    stood for.
    """
    try:
        return datetime.fromisoformat(str(said)).astimezone()
    except (ValueError, OverflowError):
        return None


async def waits_elsewhere(why: str) -> Pause:
    """Have a worker take this run up again `AGAIN` from now; to be raised, it ends the run's process."""
    state: State[object] = Scheduled(scheduled_time=now() + AGAIN, name=WAITING, message=why)
    async with get_client() as client:
        answer = await client.set_flow_run_state(UUID(flow_run.id), state)
    return Pause(state=answer.state)
