"""Decides which of many pushes to one branch of a source repository is built."""

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
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import deployment, flow_run

from orchestration.pagination import fetch_all

SKEW = timedelta(minutes=1)
COUNTS = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
"""States of a run that builds, built or will build its revision. A failed or cancelled run does not replace another
run.
"""


async def find_later_push(path: str, ref: str, pushed: str) -> FlowRun | None:
    """Return the run for a later push of the same ref, which replaces this run; None if there is none.

    A push is later only if both the hook's clock and Prefect's server say so: where they differ, each push is built.
    """
    if not (deployment.id and flow_run.id and ref and pushed):
        return None
    async with get_client() as client:
        this = await client.read_flow_run(UUID(flow_run.id))
        if this.created is None:
            return None
        runs = await fetch_all(
            client.read_flow_runs,
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[UUID(deployment.id)]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=COUNTS)),
                expected_start_time=FlowRunFilterExpectedStartTime(after_=this.created - SKEW),
            ),
        )
    return next((run for run in runs if _is_later(run, this, path, ref, pushed)), None)


def _is_later(run: FlowRun, this: FlowRun, path: str, ref: str, pushed: str) -> bool:
    if run.created is None or this.created is None or run.created <= this.created:
        return False
    parameters = run.parameters
    other, mine = _parse_time(parameters.get("pushed")), _parse_time(pushed)
    return (parameters.get("path"), parameters.get("ref")) == (path, ref) and bool(other and mine and other > mine)


def _parse_time(value: object) -> datetime | None:
    """Return the time of a push as its event states it; None if that is no time, so that no run replaces another."""
    try:
        return datetime.fromisoformat(str(value)).astimezone()
    except (ValueError, OverflowError):
        return None
