"""Runs of pushes: which run covers which push."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.states import Completed, Failed, Pending, Running, Scheduled

from orchestration import source_pushes, waiting_runs
from orchestration.source_pushes import find_later_push, find_replaced
from supply_chain.errors import EventRejected
from supply_chain.reports.daily import UNDER_WAY
from tests.support.builders import NOON
from tests.support.present import present

PATH, REF = "/shop/hello", "refs/heads/main"


@flow
def nothing():
    pass


@pytest.fixture
async def push(machine, monkeypatch):
    """Return a function that creates the run of a push a number of minutes after noon."""
    async with get_client() as client:
        made = await client.create_deployment(
            await client.create_flow(nothing), uuid4().hex, parameter_openapi_schema={}
        )
        monkeypatch.setattr(source_pushes, "deployment", SimpleNamespace(id=str(made)))

        async def one(minutes, state=None, path=PATH, ref=REF, pushed=None):
            pushed = pushed or (NOON + timedelta(minutes=minutes)).isoformat()
            given = {"path": path, "ref": ref, "pushed": pushed}
            run = await client.create_flow_run_from_deployment(made, parameters=given)
            if state:
                await client.set_flow_run_state(run.id, state, force=True)
            return run

        yield one


def test_push_schedules_one_chain(machine, monkeypatch):
    """Also if the client repeats its request, because the answer was lost. Another push of the revision is another."""
    with get_client(sync_client=True) as client:
        name = uuid4().hex
        made = client.create_deployment(client.create_flow(nothing), name, parameter_openapi_schema={})
        monkeypatch.setattr(source_pushes, "BUILD_PUSH", f"nothing/{name}")

        for at in (NOON, NOON, NOON + timedelta(seconds=1)):
            source_pushes.schedule_chain(Path(PATH), "a" * 40, REF, "web", at)

        of_it = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[made]))
        runs = sorted(client.read_flow_runs(flow_run_filter=of_it), key=lambda run: str(run.created))
    times = ["2026-11-24T12:00:00+00:00", "2026-11-24T12:00:01+00:00"]
    assert [run.parameters for run in runs] == [
        {"path": PATH, "revision": "a" * 40, "ref": REF, "team": "web", "pushed": each, "by_event": True}
        for each in times
    ]
    assert {present(run.state).name for run in runs} == {"Scheduled"}


def test_push_without_its_deployment_raises_error_with_remedy(machine, monkeypatch):
    """The project was not registered since the update; Prefect's own error has no text."""
    monkeypatch.setattr(source_pushes, "BUILD_PUSH", "nothing/of-this-name")

    with pytest.raises(EventRejected, match=r"cscm register(.|\n)*cscm chain /shop/hello --revision aaa"):
        source_pushes.schedule_chain(Path(PATH), "a" * 40, REF, "web", NOON)


async def asks(run, monkeypatch):
    monkeypatch.setattr(source_pushes, "flow_run", SimpleNamespace(id=str(run.id)))
    later = await find_later_push(run.parameters["ref"], run.parameters["pushed"])
    return later and later.id


async def test_age_of_run_counts_from_its_creation(push, monkeypatch):
    """A run that left its slot and came back does not begin again."""
    run = await push(0)
    monkeypatch.setattr(waiting_runs, "flow_run", SimpleNamespace(id=str(run.id)))
    monkeypatch.setattr(waiting_runs, "read_clock", lambda: run.created + timedelta(seconds=45))

    assert await waiting_runs.run_age() == 45


async def test_only_last_push_is_built(push, monkeypatch):
    """The order in which the runs start does not matter."""
    first, second, third = [await push(minutes) for minutes in range(3)]

    assert await asks(first, monkeypatch) in (second.id, third.id)
    assert await asks(second, monkeypatch) == third.id
    assert await asks(third, monkeypatch) is None
    replaced = find_replaced([third, first, second])
    assert {number: run.id for number, run in replaced.items()} == {first.id: third.id, second.id: third.id}


@pytest.mark.parametrize(("state", "stands"), [
    (Scheduled(), True), (Scheduled(name="Waiting"), True), (Pending(), True), (Running(), True),
    (Completed(), True), (Completed(name="Refused"), True), (Failed(), False),
])  # fmt: skip
async def test_later_push_covers_earlier_one_unless_it_failed(push, monkeypatch, state, stands):
    """A revision that was not built is built."""
    first = await push(0)
    later = await push(1, state)

    assert (await asks(first, monkeypatch) == later.id) is stands


@pytest.mark.parametrize("other", [
    {"path": "/shop/other"}, {"ref": "refs/heads/feature"}, {"ref": "refs/tags/v1"}, {"minutes": -1},
    {"pushed": "rubbish"}, {"pushed": "2026-11-24T13:00:00"},
])  # fmt: skip
async def test_push_is_not_covered_by_unrelated_push(push, monkeypatch, other):
    """Unrelated is another branch, another application, or a push that is later by one clock only."""
    first = await push(0, pushed=None if other.get("pushed") != "2026-11-24T13:00:00" else "rubbish")
    second = await push(**{"minutes": 1, **other})

    assert await asks(first, monkeypatch) is None
    assert find_replaced([first, second]) == {}


@pytest.mark.parametrize(("before", "after", "is_replaced"), [
    (f"{REF} refs/tags/v1", REF, True), (REF, f"{REF} refs/tags/v1", True), ("refs/tags/v1", "refs/tags/v1", True),
    (f"refs/heads/a {REF}", REF, False), (REF, f"refs/heads/a {REF}", True),
    (f"{REF} refs/tags/v1", "refs/tags/v1", False),
])  # fmt: skip
async def test_push_is_replaced_if_all_its_branches_were_pushed_later(push, monkeypatch, before, after, is_replaced):
    """The older revision would otherwise be deployed over the newer one."""
    first = await push(0, ref=before)
    second = await push(1, ref=after)

    assert (await asks(first, monkeypatch) == second.id) is is_replaced
    assert bool(find_replaced([first, second])) is is_replaced


async def test_both_pushes_are_built_if_clocks_disagree(push, monkeypatch):
    """The clock of the hook went back between the pushes, so either may be the last one."""
    first = await push(1)
    second = await push(0)

    assert await asks(first, monkeypatch) is None
    assert await asks(second, monkeypatch) is None


async def test_push_without_branch_is_always_built(push, monkeypatch):
    """A foreign event or an older hook sends no branch."""
    first = await push(0, ref="")
    second = await push(1, ref="")
    assert await asks(first, monkeypatch) is None
    assert find_replaced([first, second]) == {}

    monkeypatch.setattr(source_pushes, "deployment", SimpleNamespace(id=None))
    assert await asks(await push(0), monkeypatch) is None


def test_waiting_state_counts_as_under_way():
    """The daily report would otherwise list it as ended."""
    assert waiting_runs.WAITING in UNDER_WAY
