"""Pushes wait for the place of their team in the queue of chains, before a process is started for them."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Pending, Running, Scheduled

from orchestration import push_places
from orchestration.push_places import place_lock, postpone_pushes
from orchestration.worker import ProjectWorker
from tests.support.present import present


@flow
def chain():
    """Stand in for the real flow."""


@pytest.fixture
async def pushes(machine, monkeypatch):
    """Return functions that create the run of a push, postpone those that are due, and read a run's state."""
    tag = f"by-event-{uuid4().hex[:8]}"
    monkeypatch.setattr(push_places, "TAGS", [tag, "chain"])
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(get_client())
        flow_id = await client.create_flow(chain)
        deployment = await client.create_deployment(flow_id, tag, tags=[tag, "chain"], parameter_openapi_schema={})

        async def push(path="/srv/hello", team="", state=None, **more):
            given = {"path": path, "team": team, **more}
            run = await client.create_flow_run_from_deployment(deployment, parameters=given, tags=[])
            if state:
                await client.set_flow_run_state(run.id, state, force=True)
            return run

        async def pauses(runs):
            states = [present((await client.read_flow_run(run.id)).state) for run in runs]
            return [
                round((present(each.state_details.scheduled_time) - each.timestamp).total_seconds())
                if each.name == "Waiting"
                else each.name
                for each in states
            ]

        async def postpone():
            return await postpone_pushes(client, datetime.now(UTC) + timedelta(seconds=10))

        yield SimpleNamespace(push=push, pauses=pauses, postpone=postpone, client=client, team=tag)


async def test_one_push_of_each_team_keeps_its_time(pushes):
    """The first one; the others' attempts are apart, so that they cost the server little."""
    sales = [await pushes.push(f"/srv/{number}", pushes.team) for number in range(5)]
    others = [await pushes.push("/srv/0", "web"), await pushes.push("/srv/0"), await pushes.push("/srv/1")]

    assert await pushes.postpone() == 4
    assert await pushes.pauses(sales) == ["Scheduled", 20, 20, 20, 30]
    assert await pushes.pauses(others) == ["Scheduled"] * 3
    assert await pushes.postpone() == 0


@pytest.mark.parametrize("state", [Pending(), Running()], ids=str)
async def test_push_waits_while_another_one_has_its_place(pushes, state):
    """Also if it waits already, and is due again; its tag says for what."""
    await pushes.push(team=pushes.team, state=state)
    waiting = await pushes.push("/srv/other", pushes.team)
    again = await pushes.push("/srv/other", pushes.team, Scheduled(scheduled_time=datetime.now(UTC), name="Waiting"))
    later = await pushes.push(team=pushes.team, state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1)))

    assert await pushes.postpone() == 2
    assert await pushes.pauses([waiting, again]) == [20, 20]
    assert await pushes.pauses([later]) == ["Scheduled"]
    run = await pushes.client.read_flow_run(waiting.id)
    assert place_lock(pushes.team, "") in run.tags
    why = f"another push of {pushes.team} is built first; this one waits without a slot in its work queue"
    assert run.state.message == why


async def test_push_that_a_later_one_replaces_ends(pushes):
    """Its revision is not built, and needs no process to find that out."""
    times = [f"2026-11-24T12:0{minute}:00+00:00" for minute in range(3)]
    pushed = [await pushes.push(ref="refs/heads/main", pushed=each, revision=each[14:16]) for each in times]

    assert await pushes.postpone() == 0
    assert await pushes.pauses(pushed) == ["Unneeded", "Unneeded", "Scheduled"]
    state = present((await pushes.client.read_flow_run(pushed[0].id)).state)
    assert state.is_completed() and state.message == f"02 was pushed to refs/heads/main after it: {pushed[2].name}"


async def test_place_is_free_once_its_push_has_ended(pushes):
    """Whatever its end was."""
    first, second = await pushes.push(), await pushes.push()
    assert (await pushes.postpone(), await pushes.pauses([first, second])) == (1, ["Scheduled", 20])

    await pushes.client.delete_flow_run(first.id)
    await pushes.client.set_flow_run_state(second.id, Scheduled(scheduled_time=datetime.now(UTC)), force=True)

    assert await pushes.postpone() == 0


async def test_worker_postpones_pushes_before_it_polls(monkeypatch):
    """Whatever it polls, it starts."""
    calls: list[str] = []

    async def postpone(client, until):
        assert timedelta(0) < until - datetime.now(UTC) <= timedelta(seconds=10)
        calls.append("postpone")

    async def poll(_):
        calls.append("poll")
        return []

    monkeypatch.setattr("orchestration.worker.postpone_pushes", postpone)
    monkeypatch.setattr("prefect.workers.process.ProcessWorker.get_and_submit_flow_runs", poll)
    monkeypatch.setattr(ProjectWorker, "client", None)

    await ProjectWorker(work_pool_name="laptop").get_and_submit_flow_runs()

    assert calls == ["postpone", "poll"]


def test_place_of_a_team_is_no_place_of_a_repository():
    """A team may be called like one."""
    assert place_lock("", "sales") != place_lock("sales", "") == place_lock("sales", "https://git.example/code")
