"""Schedules the chain of each push to a source repository, and decides which of many pushes to one branch is built."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
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
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment, flow_run

from orchestration.events import require_answer
from orchestration.pagination import fetch_all
from supply_chain.errors import EventRejected
from supply_chain.text import sanitize_text

BUILD_PUSH = "chain/on-push"
"""The deployment whose runs build pushes."""
SKEW = timedelta(minutes=1)
COUNTS = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
"""States of a run that builds, built or will build its revision. A failed or cancelled run does not replace another
run.
"""


def schedule_chain(path: Path, revision: str, ref: str, team: str, pushed: datetime) -> None:
    """Schedule the chain of a pushed revision of the application in `path`, a directory or a bare repository.

    `team` has one place in the work queue for all its pushes. The run is made here and not by an automation, which
    makes one run after another, also for other teams. A request that the client repeats makes no second run. Raises
    `EventRejected` if Prefect does not confirm it.
    """
    at = pushed.isoformat()
    about = {"path": str(path), "revision": revision, "ref": ref, "pushed": at, "team": team, "by_event": True}
    body = {"parameters": about, "idempotency_key": f"{path} {revision} {at}"}  # no state: due by the server's clock
    with require_answer(f"the push of {path.name}"), get_client(sync_client=True) as client:
        try:
            chain = {"id": str(client.read_deployment_by_name(BUILD_PUSH).id)}
        except ObjectNotFound:
            raise EventRejected(
                f"Prefect has no deployment {BUILD_PUSH}, which builds pushes.\n"
                f"Run `cscm register` (on a laptop, `cscm up`); then: cscm chain {path} --revision {revision}"
            ) from None
        client.request("POST", "/deployments/{id}/create_flow_run", path_params=chain, json=body).raise_for_status()


async def find_later_push(ref: str, pushed: str) -> FlowRun | None:
    """Return the run for a later push of this run's ref, which replaces this run; None if there is none.

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
    return next((run for run in runs if is_later(run, this)), None)


def find_replaced(runs: Collection[FlowRun]) -> dict[UUID, FlowRun]:
    """Return the id of each run that another one of these replaces → the newest one for its branch."""
    newest = dict[tuple[object, str], FlowRun]()
    for run in sorted(runs, key=lambda each: str(each.created)):
        newest |= {(run.parameters.get("path"), ref): run for ref in _split_refs(run)}
    replaced = dict[UUID, FlowRun]()
    for run in runs:
        for ref in _find_built(run):
            later = newest[run.parameters.get("path"), ref]
            if is_later(later, run):
                replaced[run.id] = later
    return replaced


def explain_replaced(later: FlowRun) -> str:
    """Return why a push is not built, as one line."""
    parameters = later.parameters
    return sanitize_text(f"{parameters.get('revision')} was pushed to {parameters.get('ref')} after it: {later.name}")


def is_later(run: FlowRun, other: FlowRun) -> bool:
    """Return whether a run is for a later push of the same branches than another one.

    A push of branches and tags builds for its branches; without one, for its tags.
    """
    if run.created is None or other.created is None or run.created <= other.created:
        return False
    about, before = run.parameters, other.parameters
    refs = _find_built(other)
    is_same = bool(refs) and refs <= _split_refs(run) and about.get("path") == before.get("path")
    later, earlier = _parse_time(about.get("pushed")), _parse_time(before.get("pushed"))
    return bool(is_same and later and earlier and later > earlier)


def _split_refs(run: FlowRun) -> set[str]:
    return set(str(run.parameters.get("ref") or "").split())


def _find_built(run: FlowRun) -> set[str]:
    """Return the branches of a push, of `refs/heads/main refs/tags/v1` the first; all refs if there is none."""
    every = _split_refs(run)
    return {each for each in every if each.startswith("refs/heads/")} or every


def _parse_time(value: object) -> datetime | None:
    """Return the time of a push as its event states it; None if that is no time, so that no run replaces another."""
    try:
        return datetime.fromisoformat(str(value)).astimezone()
    except (ValueError, OverflowError):
        return None
