"""Finds the runs that promote an image, and starts promotions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import arun_deployment
from prefect.runtime import flow_run

from orchestration.clock import read_clock
from orchestration.pagination import fetch_all
from orchestration.registration.abandoned_runs import ABANDONED
from supply_chain.model.image import Digest
from supply_chain.model.tier import OFFERED
from supply_chain.promotion.planned_promotion import PlannedPromotion

FLOW = "promote"
TO_CURATION, TO_EXECUTION = f"{FLOW}/on-missed", f"{FLOW}/on-demand"
"""The deployments that `start_promotion` runs; each tier's runs are the work of its own workers."""
STALE = timedelta(hours=6)
"""Age after which a run counts as dead: twice what a run may wait for a chain, plus the time of a deployment."""
ACTIVE = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED)


async def list_promotions(digest: Digest) -> list[FlowRun]:
    """Return the runs that promote a digest: those that wait, run, or ask a person."""
    async with get_client() as client:
        runs = await fetch_all(
            client.read_flow_runs,
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=list(ACTIVE)))),
        )
    return [run for run in runs if str(run.parameters.get("image", "")).endswith(digest) and _is_alive(run)]


def _is_alive(run: FlowRun) -> bool:
    """Return whether a run will still act.

    A run whose machine died stays Running for ever, and a run may be scheduled for years ahead.
    """
    if run.state_type is StateType.PAUSED:
        return run.state_name != ABANDONED
    since = run.state.timestamp if run.state else run.created
    due = run.expected_start_time or since
    return since is not None and read_clock() - since < STALE and due is not None and due - read_clock() < STALE


async def is_active(promotion: PlannedPromotion) -> bool:
    """Return whether another run makes the same promotion; one that asks a person counts only if this one asks too."""
    parameters = _parameters(promotion).items()
    return any(
        str(run.id) != flow_run.id and all(run.parameters.get(key) == value for key, value in parameters)
        for run in await list_promotions(promotion.image.digest)
        if promotion.awaits_approval or run.state_type is not StateType.PAUSED
    )


async def start_promotion(promotion: PlannedPromotion) -> str:
    """Start a promotion as its event would have done, and return the name of the run.

    A promotion is started at most once an hour, and once more if it no longer asks a person.
    """
    run = await arun_deployment(
        TO_CURATION if promotion.image.repository.startswith(OFFERED) else TO_EXECUTION,
        parameters=_parameters(promotion),
        timeout=0,
        as_subflow=False,
        tags=["by-event"],  # nobody waits for this run, so its outcome is notified
        idempotency_key=f"{promotion.image} {promotion.to} {promotion.awaits_approval} {read_clock():%Y-%m-%d %H}",
    )
    return str(run.name)


def _parameters(promotion: PlannedPromotion) -> dict[str, Any]:
    """Return the parameters of a `promote` run that makes a promotion."""
    return {"image": str(promotion.image), "after": promotion.after}
