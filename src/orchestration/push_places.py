"""The places of teams in the work queue of chains: of each team one push is built at a time, and the others wait.

They wait without a process: one for each of hundreds of pushes would keep those of other teams waiting, although it
only finds out that it has to wait.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed, Scheduled, to_state_create

from orchestration.clock import read_clock
from orchestration.locks import LockKind, lock_name
from orchestration.pagination import fetch_all
from orchestration.run_states import UNNEEDED
from orchestration.source_pushes import explain_replaced, find_replaced
from supply_chain.text import sanitize_text

TAGS = ["by-event", "chain"]
"""Tags of the runs that build pushes."""
UNDER_WAY = [StateType.PENDING, StateType.RUNNING]
"""States of a push that has its team's place. A cancelled one that ends is not waited for: it may never end."""
QUEUED = "Queued"
"""Name of the state of a push that waits for its team's place. It is Scheduled, and never becomes Late."""
LONGEST_WAIT = timedelta(hours=1)
"""Time after which a queued push is due by itself."""
BULK: Any = "/flow_runs/bulk_set_state"
"""Path of Prefect's API that its client has no method for."""
BATCH = 50
"""Maximum number of runs whose state Prefect's API sets at once."""
MOST = 4 * BATCH
"""Maximum number of runs whose state is set before a poll, so that all other runs start on time."""


def name_place_lock(place: str) -> str:
    """Return the name of the lock of a place, which is a team's or a directory's.

    Both may contain characters that Prefect does not allow in a name.
    """
    return lock_name(LockKind.CHAIN, hashlib.sha256(place.encode()).hexdigest()[:12])


async def assign_places(client: PrefectClient, pool: str, until: datetime, *, wake: bool) -> frozenset[UUID]:
    """Queue the pushes that are due before `until` while another one has their place; return those that may start.

    Of several pushes, those that a later one replaces end. If `wake`, the queued pushes are read too, and the first one
    of each free place becomes due. Only runs of this work pool are changed.
    """
    taken = {_find_place(run) for run in await _read_pushes(client, _in_state(*UNDER_WAY))}
    soon = FlowRunFilterNextScheduledStartTime(before_=until)
    due = {run.id: run for run in await _read_pushes(client, _in_state(StateType.SCHEDULED), pool, soon)}
    queued = FlowRunFilterState(name=FlowRunFilterStateName(any_=[QUEUED]))
    waiting = {run.id: run for run in await _read_pushes(client, queued, pool)} | due if wake else due
    replaced = find_replaced(waiting.values())
    first, to_queue = list[FlowRun](), defaultdict[str, list[FlowRun]](list)
    for run in sorted(waiting.values(), key=lambda each: (each.created or until, each.id)):
        place = _find_place(run)
        if run.id in replaced:
            continue
        if place not in taken:
            taken.add(place)
            first.append(run)
        elif run.id in due:
            to_queue[place].append(run)
    await _set_state(client, [run for run in first if run.id not in due], Scheduled(scheduled_time=read_clock()))
    left = MOST
    for later, earlier in _group_replaced(replaced, waiting):
        left -= await _set_state(client, earlier[:left], Completed(name=UNNEEDED, message=explain_replaced(later)))
    for place, pushes in to_queue.items():
        why = f"another push of {sanitize_text(place)} is built first; this one waits without a process"
        queued_state: State[Any] = Scheduled(scheduled_time=read_clock() + LONGEST_WAIT, name=QUEUED, message=why)
        left -= await _set_state(client, pushes[:left], queued_state)
    return frozenset(run.id for run in first)


def is_push(run: FlowRun) -> bool:
    """Return whether a run builds a push."""
    return set(TAGS) <= set(run.tags)


async def _read_pushes(
    client: PrefectClient,
    state: FlowRunFilterState,
    pool: str | None = None,
    soon: FlowRunFilterNextScheduledStartTime | None = None,
) -> list[FlowRun]:
    return await fetch_all(
        client.read_flow_runs,
        flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=TAGS), state=state, next_scheduled_start_time=soon),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])) if pool else None,
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )


def _in_state(*types: StateType) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))


def _find_place(run: FlowRun) -> str:
    """Return the team of a push; without one, the application's directory."""
    return str(run.parameters.get("team") or run.parameters.get("path"))


def _group_replaced(
    replaced: Mapping[UUID, FlowRun], runs: Mapping[UUID, FlowRun]
) -> Iterator[tuple[FlowRun, list[FlowRun]]]:
    """Yield each push that replaces others, with these."""
    groups = defaultdict[UUID, list[FlowRun]](list)
    for number, later in replaced.items():
        groups[later.id].append(runs[number])
    for number, earlier in groups.items():
        yield runs[number], earlier


async def _set_state(client: PrefectClient, runs: Sequence[FlowRun], state: State[Any]) -> int:
    """Set the state of those of these runs that are still Scheduled; return the number of all."""
    new_state = to_state_create(state).model_dump(mode="json", serialize_as_any=True)
    for start in range(0, len(runs), BATCH):
        scheduled = FlowRunFilter(
            id=FlowRunFilterId(any_=[run.id for run in runs[start : start + BATCH]]),
            state=_in_state(StateType.SCHEDULED),
        )
        body = {"flow_runs": scheduled.model_dump(mode="json"), "state": new_state, "force": True}
        await client.request("POST", BULK, json=body)
    return len(runs)
