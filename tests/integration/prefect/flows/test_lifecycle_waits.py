"""A lifecycle plan that waits for approval on a Prefect server is resumed with the form and the same plan."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async
from prefect.flow_runs import aresume_flow_run
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from blocks.lifecycle_ports import LifecyclePorts
from flows import lifecycle
from supply_chain.lifecycle.apply import Applied
from supply_chain.lifecycle.planning import plan_lifecycle as plan_of
from tasks import lifecycle as tasks
from tests.support.present import present
from tests.support.snapshots import NOW, RULES, newest, snapshot_of

STRICT = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": 0})})


@pytest.fixture
def place(monkeypatch):
    """Set up the lifecycle with an advancing clock, so that a second plan would differ."""
    place = SimpleNamespace(planned=[], applied=[], signed=[])

    async def load():
        return SimpleNamespace(
            evidence=None, repositories=None,
            reader=SimpleNamespace(read_snapshot=lambda images, now: snapshot_of(*images)),
            workbench=SimpleNamespace(lifecycle="apply", rules=lambda rules: STRICT),
        )  # fmt: skip

    async def read_images():
        return snapshot_of(*newest(1)).images

    def planned(snapshot, rules, now):
        place.planned.append(plan_of(snapshot, rules, NOW.replace(minute=len(place.planned))))
        return place.planned[-1]

    async def carried_out(found, ports):
        place.applied.append(found.digest)
        return Applied(plan=found.digest, entries=())

    async def table(**_):
        return None

    for module, name, stand_in in (
        (LifecyclePorts, "aload", load),
        (lifecycle, "_apply", carried_out),
        (tasks, "_read_images", read_images),
        (tasks, "plan_lifecycle", planned),
        (tasks, "acreate_table_artifact", table),
        (
            tasks,
            "sign_plan_answer",
            lambda plan, yes, *_, by, reason, now: place.signed.append((plan, yes, by, reason)),
        ),
    ):
        monkeypatch.setattr(module, name, stand_in)
    return place


async def start_until_paused(client):
    """Start the lifecycle, and return its run once it waits for the approval of its plan."""
    flow = await client.create_flow(lifecycle.lifecycle)
    deployment = await client.create_deployment(flow, "nightly", parameter_openapi_schema={})
    run = await client.create_flow_run_from_deployment(deployment, parameters={"rules": "nightly"})
    with pytest.raises(Pause):
        await run_flow_async(lifecycle.lifecycle, flow_run=run, return_type="state")
    return run


@pytest.mark.parametrize("yes", [True, False])
async def test_approved_plan_is_applied_unchanged(machine, place, tmp_path, monkeypatch, yes):
    """A plan made days later may differ; a rejected plan is not applied."""
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        async with get_client() as client:
            run = await start_until_paused(client)
            waiting = present((await client.read_flow_run(run.id)).state)
            assert (waiting.type.value, waiting.name) == ("PAUSED", "Suspended")
            assert (len(place.planned), place.applied, place.signed) == (1, [], [])

            await aresume_flow_run(run.id, run_input={"approve": yes, "by": "ann", "reason": "read it"})
            again = await client.read_flow_run(run.id)
            monkeypatch.setattr(lifecycle, "read_clock", lambda: datetime.now(UTC) + timedelta(days=3))
            await run_flow_async(lifecycle.lifecycle, flow_run=again, return_type="state")
            ended = present((await client.read_flow_run(run.id)).state)

    digest = place.planned[0].digest
    assert len(place.planned) == 1
    assert place.signed == [(digest, yes, "ann", "read it")]
    assert place.applied == ([digest] if yes else [])
    assert ended.name == ("Completed" if yes else "Rejected")


async def test_approval_is_requested_again_if_plan_was_lost(machine, place, tmp_path):
    """The approval of a lost plan does not apply to the new plan."""
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        async with get_client() as client:
            run = await start_until_paused(client)
            await aresume_flow_run(run.id, run_input={"approve": True, "by": "ann", "reason": "read it"})
            for file in [each for each in tmp_path.rglob("*") if each.is_file()]:
                file.unlink()
            again = await client.read_flow_run(run.id)
            with pytest.raises(Pause):
                await run_flow_async(lifecycle.lifecycle, flow_run=again, return_type="state")
            waiting = present((await client.read_flow_run(run.id)).state)

    assert waiting.name == "Suspended"
    assert (len(place.planned), place.applied, place.signed) == (2, [], [])
