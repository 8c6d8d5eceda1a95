"""chain: runs the tiers one after another, as far as promotion freezes allow."""

import asyncio
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from threading import Event
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.states import Scheduled

from blocks import Workbench
from flows import chain as flows
from flows.chain import chain
from orchestration import locks, promotion_freeze
from orchestration.push_places import name_place_lock
from orchestration.run_report import RunReporter
from orchestration.waiting_runs import RETRY_AFTER
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.promotion.freeze import PromotionFreeze
from tests.support.present import present

STEPS = ("build", "curate", "deploy")


@pytest.mark.parametrize(
    ("by_event", "frozen_before", "ends", "done"),
    [
        (True, "curate", "Frozen", 1),
        (True, "deploy", "Frozen", 2),
        (True, None, "Completed", 3),
        (False, "curate", "Completed", 3),
    ],
)
async def test_freeze_stops_chain_of_push_but_not_of_person(
    machine, make, monkeypatch, by_event, frozen_before, ends, done
):
    """After the freeze, catch-up continues from the last finished tier."""
    monkeypatch.setattr(promotion_freeze, "VARIABLE", f"frozen_{uuid4().hex}")
    monkeypatch.setattr(flows, "_check_environment", lambda *_: None)
    monkeypatch.setattr(flows, "open_snapshot", lambda *_: nullcontext(SimpleNamespace(declaration=make.declaration())))
    monkeypatch.setattr(flows, "report_run", lambda *_: nullcontext())
    monkeypatch.setattr(Workbench, "aload", AsyncMock(return_value=Mock()))
    called: list[str] = []
    waited: list[str] = []

    def lock(name, *_):
        waited.append(name)
        return nullcontext()

    monkeypatch.setattr(flows, "run_lock", lock)

    def step(name, following):
        async def run(**_):
            called.append(name)
            if following == frozen_before:
                await promotion_freeze.set_freeze(PromotionFreeze(by="ann", reason="holidays", since=make.noon))
            return SimpleNamespace(
                ref=ImageRef(repository="curated/hello", digest=make.digest), environments=("staging",)
            )

        return run

    for name, following in zip(STEPS, (*STEPS[1:], ""), strict=True):
        monkeypatch.setattr(flows, name, step(name, following))

    assert (await chain("/srv/hello", by_event=by_event, return_state=True)).name == ends
    assert called == list(STEPS[:done])
    assert waited == ["promote hello", *(["curate hello", "deploy staging hello"][:done] if by_event else [])]


async def test_freeze_during_wait_for_lock_stops_chain_of_push(machine, make, monkeypatch):
    """An answer from before the lock may be minutes old."""
    monkeypatch.setattr(promotion_freeze, "VARIABLE", f"frozen_{uuid4().hex}")

    @asynccontextmanager
    async def lock(name):
        await promotion_freeze.set_freeze(PromotionFreeze(by="ann", reason="holidays", since=make.noon))
        yield

    monkeypatch.setattr(flows, "run_lock", lock)

    async with flows._step_lock("deploy staging hello", True) as freeze:
        assert present(freeze).by == "ann"
    async with flows._step_lock("deploy staging hello", False) as freeze:
        assert freeze is None


async def test_refused_name_ends_chain_as_refused(machine, make, monkeypatch):
    """Nothing was built, so there is nothing to curate."""
    refusal = Refused(
        image=None,
        application="hello",
        gate=Gate.INTAKE,
        policy=f"sha256:{'0' * 64}",
        reasons=(Reason(code="name.taken", fact="hello is another's", remedy="use another name"),),
    )
    monkeypatch.setattr(flows, "_check_environment", lambda *_: None)
    snapshot = SimpleNamespace(declaration=make.declaration())
    monkeypatch.setattr(flows, "open_snapshot", lambda *_: nullcontext(snapshot))
    monkeypatch.setattr(flows, "report_run", lambda *_: nullcontext())
    monkeypatch.setattr(Workbench, "aload", AsyncMock(return_value=Mock()))
    monkeypatch.setattr(flows, "build", AsyncMock(return_value=refusal))

    state = await chain("/srv/hello", return_state=True)

    assert (state.name, await state.aresult()) == ("Refused", refusal)


async def test_policies_are_checked_while_the_image_is_built(machine, make, monkeypatch):
    """The gates then find them checked."""
    checked, built = Event(), []

    async def build(*_):
        built.append(await asyncio.to_thread(checked.wait, 60))

    monkeypatch.setattr(flows, "_check_environment", lambda *_: None)
    monkeypatch.setattr(flows, "open_snapshot", lambda *_: nullcontext(SimpleNamespace(declaration=make.declaration())))
    monkeypatch.setattr(flows, "report_run", lambda *_: nullcontext())
    monkeypatch.setattr(flows, "_chain", build)
    workbench = SimpleNamespace(check_policies=checked.set, find_excluded=None)
    monkeypatch.setattr(Workbench, "aload", AsyncMock(return_value=workbench))

    await chain("/srv/hello")
    assert built == [True]


@pytest.mark.parametrize(("placed", "noted"), [(["hello"], 0), (["other"], 1)])
async def test_missing_placement_is_noted_before_build(machine, make, monkeypatch, placed, noted):
    """The deploy gate would only find it after minutes of work."""
    environment = DockerEnvironment(
        name="staging", applications={name: {"address": "127.0.0.1", "port": 18080} for name in placed}
    )
    workbench = SimpleNamespace(
        check_policies=lambda: None, find_excluded=None, environment={"staging": environment}.__getitem__
    )
    notes, before = list[str](), list[str]()

    async def build(*_):
        before.extend(notes)

    monkeypatch.setattr(RunReporter, "note", lambda _, text: notes.append(text))
    declaration = make.declaration(name="hello", environments=("staging",))
    monkeypatch.setattr(flows, "open_snapshot", lambda *_: nullcontext(SimpleNamespace(declaration=declaration)))
    monkeypatch.setattr(flows, "_chain", build)
    monkeypatch.setattr(Workbench, "aload", AsyncMock(return_value=workbench))

    await chain("/srv/hello")

    assert len(before) == len(notes) == noted
    assert all("hello has no address in staging. — Add it under" in note for note in notes)


@pytest.fixture
async def by_push(machine, make, monkeypatch, tmp_path):
    """Return functions that create the run of a push and let a worker execute it, up to its next state."""
    name = f"hello-{uuid4().hex[:8]}"
    steps = AsyncMock(return_value=None)
    for part, stand_in in (
        ("_check_environment", lambda *_: None), ("report_run", lambda *_: nullcontext()), ("_chain", steps),
        ("SOON", 0.3),
        ("open_snapshot", lambda *_: nullcontext(SimpleNamespace(declaration=make.declaration(name=name)))),
        ("read_application", AsyncMock(return_value=name)),
    ):  # fmt: skip
        monkeypatch.setattr(flows, part, stand_in)
    monkeypatch.setattr(Workbench, "aload", AsyncMock(return_value=Mock()))
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        async with get_client() as client:
            made = await client.create_deployment(await client.create_flow(chain), name, parameter_openapi_schema={})

            async def push(ref, pushed, by_event=True, team=""):
                given = {"path": "/srv/hello", "ref": ref, "pushed": pushed, "by_event": by_event, "team": team}
                return await client.create_flow_run_from_deployment(made, parameters=given)

            async def work(run):
                with suppress(Pause):
                    run = await client.read_flow_run(run.id)
                    await run_flow_async(chain, flow_run=run, parameters=run.parameters, return_type="state")
                return (await client.read_flow_run(run.id)).state

            taken = {
                "application": f"promote {name}",
                "directory": name_place_lock("/srv/hello"),
                "team": name_place_lock("web"),
            }
            yield SimpleNamespace(push=push, work=work, taken=taken, steps=steps)


@pytest.mark.parametrize(("held", "team"), [("application", ""), ("directory", ""), ("team", "web")])
async def test_push_without_lock_is_rescheduled_and_frees_its_slot(by_push, held, team):
    """Its slot in the work queue is free meanwhile, and the run is executed later.

    Each time it waits longer.
    """
    run = await by_push.push("refs/heads/main", "2026-11-24T12:00:00+00:00", team=team)
    async with locks.run_lock(by_push.taken[held]):
        token = locks._held.set(frozenset())
        state = await by_push.work(run)
        locks._held.reset(token)
    assert (state.type.value, state.name) == ("SCHEDULED", "Waiting")
    assert timedelta(seconds=5) < state.state_details.scheduled_time - datetime.now(UTC) < RETRY_AFTER
    async with locks.run_lock(by_push.taken[held]), get_client() as client:
        await client.set_flow_run_state(run.id, Scheduled(scheduled_time=datetime.now(UTC)), force=True)
        token = locks._held.set(frozenset())
        state = await by_push.work(run)
        locks._held.reset(token)
    assert RETRY_AFTER < state.state_details.scheduled_time - datetime.now(UTC) < 2 * RETRY_AFTER
    assert not by_push.steps.await_count
    assert not set(locks.find_abandoned_locks()) & set(by_push.taken.values())

    async with get_client() as client:
        await client.set_flow_run_state(run.id, Scheduled(scheduled_time=datetime.now(UTC)), force=True)
    assert (await by_push.work(run)).name == "Completed"
    assert by_push.steps.await_count == 1


async def test_push_of_another_team_does_not_wait(by_push):
    """Neither for a team nor for the directory."""
    run = await by_push.push("refs/heads/main", "2026-11-24T12:00:00+00:00", team="sales")
    async with locks.run_lock(by_push.taken["team"]), locks.run_lock(by_push.taken["directory"]):
        token = locks._held.set(frozenset())
        state = await by_push.work(run)
        locks._held.reset(token)

    assert state.name == "Completed"


async def test_push_holds_no_lock_of_its_application_during_the_snapshot(by_push, monkeypatch):
    """The name may be another source's, whose runs would wait for as long as the snapshot takes."""
    taken: list[str] = []

    def snapshot_of(*_):
        taken.extend(locks._held.get())
        raise AssertionError("stop here")

    monkeypatch.setattr(flows, "open_snapshot", snapshot_of)
    await by_push.work(await by_push.push("refs/heads/main", "2026-11-24T12:00:00+00:00"))

    assert taken == [by_push.taken["directory"]]


async def test_waiting_push_takes_no_snapshot(by_push, monkeypatch):
    """It is retried again and again, and a copy each time would keep the disk busy."""

    def snapshot_of(*_):
        raise AssertionError("a snapshot was taken")

    monkeypatch.setattr(flows, "open_snapshot", snapshot_of)
    run = await by_push.push("refs/heads/main", "2026-11-24T12:00:00+00:00")
    async with locks.run_lock(by_push.taken["application"]):
        token = locks._held.set(frozenset())
        assert (await by_push.work(run)).name == "Waiting"
        locks._held.reset(token)


async def test_only_last_push_of_branch_is_built(by_push):
    """The others end as Unneeded; another branch is built separately."""
    pushed = [
        await by_push.push(ref, f"2026-11-24T12:0{minute}:00+00:00")
        for minute, ref in enumerate(["refs/heads/main", "refs/heads/feature", "refs/heads/main", "refs/heads/main"])
    ]

    assert [(await by_push.work(run)).name for run in pushed] == ["Unneeded", "Completed", "Unneeded", "Completed"]
    assert by_push.steps.await_count == 2
