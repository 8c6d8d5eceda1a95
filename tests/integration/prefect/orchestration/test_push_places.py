"""Pushes wait for the place of their team in the queue of chains, before a process is started for them."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling, Pending, Running, Scheduled

from orchestration import push_places
from orchestration.push_places import LONGEST_WAIT, QUEUED, assign_places
from tests.support.present import present


@flow
def chain():
    """Stand in for the real flow."""


@pytest.fixture
async def pushes(machine, monkeypatch):
    """Return functions that create the run of a push, assign the places, and read the names of runs' states."""
    tag = f"by-event-{uuid4().hex[:8]}"
    monkeypatch.setattr(push_places, "TAGS", [tag, "chain"])
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(get_client())
        await client.create_work_pool(WorkPoolCreate(name=tag, type="process"))
        deployment = await client.create_deployment(
            await client.create_flow(chain), tag, tags=[tag, "chain"], work_pool_name=tag, parameter_openapi_schema={}
        )

        async def push(path="/srv/hello", team="", state=None, **more):
            given = {"path": path, "team": team, **more}
            run = await client.create_flow_run_from_deployment(deployment, parameters=given, tags=[])
            if state:
                await client.set_flow_run_state(run.id, state, force=True)
            return run

        async def states(runs):
            return [present((await client.read_flow_run(run.id)).state).name for run in runs]

        async def assign(wake=False):
            return await assign_places(client, tag, datetime.now(UTC) + timedelta(seconds=10), wake=wake)

        yield SimpleNamespace(push=push, states=states, assign=assign, client=client, team=tag)


async def test_one_push_of_each_team_and_directory_is_due(pushes):
    """The first one; a place without a team is the directory's."""
    sales = [await pushes.push(f"/srv/{number}", pushes.team) for number in range(5)]
    others = [await pushes.push("/srv/0", "web"), await pushes.push("/srv/0"), await pushes.push("/srv/1")]

    assert await pushes.assign() == {run.id for run in (sales[0], *others)}
    assert await pushes.states(sales) == ["Scheduled", *["Queued"] * 4]
    assert await pushes.states(others) == ["Scheduled"] * 3
    assert await pushes.assign() == {run.id for run in (sales[0], *others)}
    state = present((await pushes.client.read_flow_run(sales[1].id)).state)
    assert state.message == f"another push of {pushes.team} is built first; this one waits without a process"
    wait = present(state.state_details.scheduled_time) - state.timestamp
    assert abs(wait - LONGEST_WAIT) < timedelta(seconds=5)


@pytest.mark.parametrize("state", [Pending(), Running()], ids=str)
async def test_push_is_queued_while_its_place_is_taken(pushes, state):
    """Also if it was queued, and is due by itself."""
    await pushes.push(team=pushes.team, state=state)
    waiting = await pushes.push("/srv/other", pushes.team)
    again = await pushes.push("/srv/other", pushes.team, Scheduled(scheduled_time=datetime.now(UTC), name=QUEUED))
    later = await pushes.push(team=pushes.team, state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1)))

    assert await pushes.assign(wake=True) == frozenset()
    assert await pushes.states([waiting, again, later]) == ["Queued", "Queued", "Scheduled"]


async def test_first_queued_push_becomes_due_once_its_place_is_free(pushes):
    """Before those that were pushed after it. Whatever the end of the one before was, also one that takes forever."""
    first, second, third = [await pushes.push(str(number), pushes.team) for number in range(3)]
    await pushes.client.set_flow_run_state(first.id, Running(), force=True)
    await pushes.assign()
    fourth = await pushes.push("4", pushes.team)

    await pushes.client.set_flow_run_state(first.id, Cancelling(), force=True)

    assert await pushes.assign(wake=True) == {second.id}
    assert await pushes.states([second, third, fourth]) == ["Scheduled", "Queued", "Queued"]
    due = present(present((await pushes.client.read_flow_run(second.id)).state).state_details.scheduled_time)
    assert due < datetime.now(UTC)


async def test_push_replaced_by_later_push_ends_as_unneeded(pushes):
    """Its revision is not built, and needs no process to find that out; queued or not."""
    times = [f"2026-11-24T12:0{minute}:00+00:00" for minute in range(4)]
    pushed = [await pushes.push(ref="refs/heads/main", pushed=each, revision=each[14:16]) for each in times]
    queued: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1), name=QUEUED)
    await pushes.client.set_flow_run_state(pushed[0].id, queued, force=True)

    assert await pushes.assign(wake=True) == {pushed[3].id}
    assert await pushes.states(pushed) == ["Unneeded", "Unneeded", "Unneeded", "Scheduled"]
    state = present((await pushes.client.read_flow_run(pushed[0].id)).state)
    assert state.is_completed() and state.message == f"03 was pushed to refs/heads/main after it: {pushed[3].name}"


async def test_runs_that_changed_meanwhile_keep_their_state(pushes, monkeypatch):
    """Somebody cancelled or deleted them, or another worker started them, after they were read."""
    first, *others = [await pushes.push(str(number), pushes.team) for number in range(5)]
    read = push_places._read_pushes

    async def read_before(client, *wanted):
        found = await read(client, *wanted)
        if len(found) == 5:
            await client.set_flow_run_state(others[0].id, Cancelled(), force=True)
            await client.set_flow_run_state(others[1].id, Running(), force=True)
            await client.delete_flow_run(others[2].id)
        return found

    monkeypatch.setattr(push_places, "_read_pushes", read_before)

    assert await pushes.assign() == {first.id}
    assert await pushes.states([first, others[0], others[1], others[3]]) == [
        "Scheduled", "Cancelled", "Running", "Queued",
    ]  # fmt: skip


async def test_number_of_pushes_queued_per_poll_is_limited(pushes, monkeypatch):
    """All other runs start on time; the rest may not start either, and is queued next."""
    monkeypatch.setattr(push_places, "BATCH", 2)
    monkeypatch.setattr(push_places, "MOST", 3)
    runs = [await pushes.push(str(number), pushes.team) for number in range(7)]

    assert await pushes.assign() == {runs[0].id}
    assert (await pushes.states(runs)).count("Queued") == 3
    assert await pushes.assign() == {runs[0].id}
    assert (await pushes.states(runs)).count("Queued") == 6


async def test_pushes_of_another_pool_do_not_wait(pushes):
    """Its worker may be off, and the place would never be free."""
    client, name = pushes.client, uuid4().hex
    await client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    foreign = await client.create_deployment(
        await client.create_flow(chain), name, tags=push_places.TAGS, work_pool_name=name, parameter_openapi_schema={}
    )
    given = {"path": "/srv/hello", "team": pushes.team}
    run = await client.create_flow_run_from_deployment(foreign, parameters=given, tags=[])
    own = await pushes.push(team=pushes.team)

    assert await pushes.assign() == {own.id}
    assert await pushes.states([run, own]) == ["Scheduled", "Scheduled"]
