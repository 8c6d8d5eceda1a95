"""Pushes: which one stands for which."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Completed, Failed, Pending, Running, Scheduled

from orchestration import push_runs as pushes
from orchestration.push_runs import later_push
from supply_chain.reports.daily import UNDER_WAY
from tests.unit.conftest import NOON

PATH, REF = "/shop/hello", "refs/heads/main"


@flow
def nothing():
    pass


@pytest.fixture
async def push(machine, monkeypatch):
    """A function that makes the run of a push so many minutes after noon; the last one is the run that asks."""
    async with get_client() as client:
        made = await client.create_deployment(
            await client.create_flow(nothing), uuid4().hex, parameter_openapi_schema={}
        )
        monkeypatch.setattr(pushes, "deployment", SimpleNamespace(id=str(made)))

        async def one(minutes, state=None, path=PATH, ref=REF, pushed=None):
            pushed = pushed or (NOON + timedelta(minutes=minutes)).isoformat()
            given = {"path": path, "ref": ref, "pushed": pushed}
            run = await client.create_flow_run_from_deployment(made, parameters=given)
            if state:
                await client.set_flow_run_state(run.id, state, force=True)
            return run

        yield one


async def asks(run, monkeypatch, **changes):
    monkeypatch.setattr(pushes, "flow_run", SimpleNamespace(id=str(run.id)))
    later = await later_push(**{**run.parameters, **changes})
    return later and later.id


async def test_the_last_push_is_built_and_those_before_it_are_not(push, monkeypatch):
    """Whoever of them starts first; one that waits to be taken up again is as old as it was."""
    first, second, third = [await push(minutes) for minutes in range(3)]

    assert await asks(first, monkeypatch) in (second.id, third.id)
    assert await asks(second, monkeypatch) == third.id
    assert await asks(third, monkeypatch) is None


@pytest.mark.parametrize(("state", "stands"), [
    (Scheduled(), True), (Scheduled(name="Waiting"), True), (Pending(), True), (Running(), True),
    (Completed(), True), (Completed(name="Refused"), True), (Failed(), False),
])  # fmt: skip
async def test_a_later_push_stands_for_an_earlier_unless_it_failed(push, monkeypatch, state, stands):
    """What nobody built is built."""
    first = await push(0)
    later = await push(1, state)

    assert (await asks(first, monkeypatch) == later.id) is stands


@pytest.mark.parametrize("other", [
    {"path": "/shop/other"}, {"ref": "refs/heads/feature"}, {"ref": f"{REF} refs/tags/v1"}, {"minutes": -1},
    {"pushed": "rubbish"}, {"pushed": "2026-11-24T13:00:00"},
])  # fmt: skip
async def test_no_other_push_stands_for_it(push, monkeypatch, other):
    """Of another branch or application; nor one that only one clock calls later."""
    first = await push(0, pushed=None if other.get("pushed") != "2026-11-24T13:00:00" else "rubbish")
    await push(**{"minutes": 1, **other})

    assert await asks(first, monkeypatch) is None


async def test_where_the_two_clocks_differ_each_push_is_built(push, monkeypatch):
    """The hook's clock went back between them: either may be the last one."""
    first = await push(1)
    second = await push(0)

    assert await asks(first, monkeypatch) is None
    assert await asks(second, monkeypatch) is None


async def test_who_says_no_branch_is_built(push, monkeypatch):
    """An event of somebody else's making, or of an older hook: what it does not say is empty."""
    first = await push(0, ref="")
    await push(1, ref="")
    assert await asks(first, monkeypatch) is None

    monkeypatch.setattr(pushes, "deployment", SimpleNamespace(id=None))
    assert await asks(await push(0), monkeypatch) is None


def test_a_run_that_waits_is_under_way():
    """The page of the morning would otherwise tell it as one that ended."""
    assert pushes.WAITING in UNDER_WAY
