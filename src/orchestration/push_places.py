"""The places of teams in the work queue of chains: pushes wait for them without a process.

A process for each of hundreds of pushes would keep those of other teams waiting, although it only finds out that it
has to wait.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Completed

from orchestration.locks import LockKind, lock_name
from orchestration.pagination import fetch_all
from orchestration.run_states import UNNEEDED
from orchestration.source_pushes import explain_replaced, find_replaced
from orchestration.waiting_runs import count_waiting, keep_waiting
from supply_chain.text import plain_text

TAGS = ["by-event", "chain"]
"""Tags of the runs that build pushes."""
UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def place_lock(team: str, repository: str) -> str:
    """Return the name of the lock of a team's place, or of a source repository's if the git hook names no team.

    A team or an address may contain characters that Prefect does not allow in a name. No repository has the lock of a
    team, because its address contains no NUL.
    """
    subject = f"\0{team}" if team else repository
    return lock_name(LockKind.CHAIN, hashlib.sha256(subject.encode()).hexdigest()[:12])


async def postpone_pushes(client: PrefectClient, until: datetime) -> int:
    """Let pushes wait that are due before `until` while another push has their place; return how many.

    Of several pushes that are due, those that a later one replaces end, and the first of the others keeps its time.
    Without a team, a place is that of the application's directory: the repository is not known before a process reads
    it.
    """
    soon = FlowRunFilterNextScheduledStartTime(before_=until)
    due = await _read_pushes(client, [StateType.SCHEDULED], soon)
    if not due:
        return 0
    replaced = find_replaced(due)
    for number, later in replaced.items():
        ended: State[Any] = Completed(name=UNNEEDED, message=explain_replaced(later))
        await client.set_flow_run_state(number, ended, force=True)
    taken = {_find_place(run) for run in await _read_pushes(client, UNDER_WAY)}
    others, postponed = dict[str, int](), 0
    waiting = (each for each in due if each.id not in replaced)
    for run in sorted(waiting, key=lambda each: (each.next_scheduled_start_time or until, each.id)):
        place = _find_place(run)
        if place not in taken:
            taken.add(place)
            continue
        if place not in others:
            others[place] = await count_waiting(place)
        holder = plain_text(str(run.parameters.get("team") or run.parameters.get("path")))
        why = f"another push of {holder} is built first; this one waits without a slot in its work queue"
        await keep_waiting(client, run, why, place, others[place])
        others[place] += 1
        postponed += 1
    return postponed


async def _read_pushes(
    client: PrefectClient, states: list[StateType], due: FlowRunFilterNextScheduledStartTime | None = None
) -> list[FlowRun]:
    return await fetch_all(
        client.read_flow_runs,
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=TAGS),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
            next_scheduled_start_time=due,
        ),
    )


def _find_place(run: FlowRun) -> str:
    return place_lock(str(run.parameters.get("team") or ""), str(run.parameters.get("path")))
