"""Work queues and abandoned runs: Prefect's server has what is declared."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.states import Completed, Pending, Running, Scheduled, Suspended

from orchestration import registration
from orchestration.registration import ensure_abandoned, ensure_queues
from orchestration.registration.abandoned_runs import make_abandoned_run_automations
from supply_chain.errors import ComponentFailed, SettingInvalid
from tests.support.present import present

DECLARED = """
definitions:
  limit: 9
  queues:
    - {name: watch, priority: 1}
    - {name: default, priority: 2}
    - {name: pushes, priority: 3, limit: 2}
  work_pool: {name: POOL}
deployments: []
"""


@pytest.fixture
def pool(ask, tmp_path: Path):
    """Create a work pool on the server and a project that declares its queues."""
    name = f"pool-{tmp_path.name}"
    ask("POST", "/work_pools/", {"name": name, "type": "process"})
    (tmp_path / "prefect.yaml").write_text(DECLARED.replace("POOL", name))
    yield name
    ask("DELETE", f"/work_pools/{name}")


def queues(ask, pool):
    found = ask("POST", f"/work_pools/{pool}/queues/filter", {})
    return {each["name"]: (each["priority"], each["concurrency_limit"]) for each in found}


def test_queues_and_limits_of_pool_match_declaration(ask, pool, tmp_path):
    """They are created once and corrected after a change; an operator's own queue stays."""
    assert ensure_queues(tmp_path, ask)
    assert ask("GET", f"/work_pools/{pool}")["concurrency_limit"] == 9
    assert queues(ask, pool) == {"watch": (1, None), "default": (2, None), "pushes": (3, 2)}
    assert ensure_queues(tmp_path, ask) == ()

    ask("POST", f"/work_pools/{pool}/queues", {"name": "ours"})
    ask("PATCH", f"/work_pools/{pool}/queues/pushes", {"concurrency_limit": 100})
    assert ensure_queues(tmp_path, ask) == ("pushes",)
    assert queues(ask, pool)["pushes"] == (3, 2) and "ours" in queues(ask, pool)


def test_every_work_pool_of_a_deployment_has_the_queues(ask, pool, tmp_path):
    """With one pool for each tier, a flood of events of one tier does not block the others."""
    ask("POST", "/work_pools/", {"name": f"{pool}-curation", "type": "process"})
    named = f"\n  - {{work_pool: {{name: {pool}-curation}}}}\n  - {{work_pool: {{name: {pool}}}}}\n  - {{name: x}}"
    (tmp_path / "prefect.yaml").write_text(DECLARED.replace("POOL", "nobodys").replace(" []", named))

    ensure_queues(tmp_path, ask)

    assert queues(ask, f"{pool}-curation") == queues(ask, pool) == {
        "watch": (1, None), "default": (2, None), "pushes": (3, 2),
    }  # fmt: skip
    assert ensure_queues(tmp_path, ask) == ()
    ask("DELETE", f"/work_pools/{pool}-curation")


def test_unknown_work_pool_is_an_error_with_command_to_create_it(ask, pool, tmp_path):
    """No other pool is changed before."""
    named = f"\n  - {{work_pool: {{name: {pool}}}}}\n  - {{work_pool: {{name: zz-nobodys}}}}"
    (tmp_path / "prefect.yaml").write_text(DECLARED.replace(" []", named))

    with pytest.raises(ComponentFailed, match=r"'zz-nobodys', which the server(.|\n)*work-pool create zz-nobodys"):
        ensure_queues(tmp_path, ask)

    assert "pushes" not in queues(ask, pool)


def test_ensure_queues_creates_none_by_default_and_refuses_invalid(ask, tmp_path):
    """An invalid declaration is an error."""
    assert ensure_queues(tmp_path, ask) == ()
    (tmp_path / "prefect.yaml").write_text("deployments: []")
    assert ensure_queues(tmp_path, ask) == ()
    (tmp_path / "prefect.yaml").write_text(DECLARED.replace("limit: 2", "limit: 0"))
    with pytest.raises(SettingInvalid, match="work queues"):
        ensure_queues(tmp_path, ask)


def test_abandoned_run_automations_are_created_once(ask):
    """A changed automation is corrected."""
    names = tuple(each["name"] for each in make_abandoned_run_automations())
    assert ensure_abandoned(ask) == names
    assert ensure_abandoned(ask) == ()

    (found,) = (each for each in ask("POST", "/automations/filter", {"limit": 200}) if each["name"] == names[0])
    ask("PUT", f"/automations/{found['id']}", {**make_abandoned_run_automations()[0], "description": "other"})
    assert ensure_abandoned(ask) == names[:1]
    for each in ask("POST", "/automations/filter", {"limit": 200}):
        if each["name"] in names:
            ask("DELETE", f"/automations/{each['id']}")


def test_flood_of_one_queue_does_not_block_another(ask, pool, tmp_path):
    """A worker gets at most the limit of runs from the limited queue, and all runs of the other."""
    ensure_queues(tmp_path, ask)
    flow_id = ask("POST", "/flows/", {"name": "flooded"})["id"]
    runs = {}
    for queue, count in (("pushes", 20), ("watch", 3)):
        body = {"name": queue, "flow_id": flow_id, "work_pool_name": pool, "work_queue_name": queue}
        deployment = ask("POST", "/deployments/", body)["id"]
        for _ in range(count):
            run = ask("POST", f"/deployments/{deployment}/create_flow_run", {})
            runs[run["id"]] = queue

    given = []
    for _ in range(3):
        found = ask("POST", f"/work_pools/{pool}/get_scheduled_flow_runs", {})
        given += [runs[each["flow_run"]["id"]] for each in found]
        for each in found:
            state = {"type": "PENDING", "name": "Pending"}
            ask("POST", f"/flow_runs/{each['flow_run']['id']}/set_state", {"state": state})

    assert sorted(given) == ["pushes"] * 2 + ["watch"] * 3
    ask("DELETE", f"/flows/{flow_id}")


@flow
def nothing():
    pass


@pytest.fixture
def beat(ask):
    """Return a function that emits the heartbeat of a run."""

    def one(run):
        event = {
            "event": "prefect.flow-run.heartbeat", "occurred": datetime.now(UTC).isoformat(), "id": str(uuid4()),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
            "related": [
                {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"} for tag in run.tags
            ],
        }  # fmt: skip
        ask("POST", "/events", [event])

    return one


@pytest.fixture
def short_lease(ask, monkeypatch):
    """Create the automations with a short lease."""
    monkeypatch.setattr(registration.abandoned_runs, "LEASE", 12)
    names = ensure_abandoned(ask)
    yield
    for each in ask("POST", "/automations/filter", {"limit": 200}):
        if each["name"] in names:
            ask("DELETE", f"/automations/{each['id']}")


async def test_late_heartbeat_of_suspended_run_does_not_crash_it(ask, short_lease, beat):
    """Its process ends a moment after the suspension; a crash would lose its input form."""
    async with get_client() as client:
        made = await client.create_deployment(
            await client.create_flow(nothing), uuid4().hex, parameter_openapi_schema={}
        )
        late, states = [], list[State[Any]]([Suspended(), Scheduled(name="Waiting")])
        for state in states:
            late.append(await client.create_flow_run_from_deployment(made, state=Running(), tags=["cscm"]))
            await client.set_flow_run_state(late[-1].id, state, force=True)
            beat(late[-1])
        killed = await client.create_flow_run(nothing, state=Running(), tags=["cscm"])
        beat(killed)
        name: str | None = None
        end = time.monotonic() + 120
        while name != "Crashed" and time.monotonic() < end:
            await asyncio.sleep(2)
            name = present((await client.read_flow_run(killed.id)).state).name

        assert name == "Crashed"
        assert [present((await client.read_flow_run(run.id)).state).name for run in late] == ["Suspended", "Waiting"]


async def test_only_abandoned_runs_of_chain_are_crashed(ask, short_lease, beat):
    """A run killed while running and one taken but never started crash; runs of other teams never do."""
    async with get_client() as client:
        states: list[State[Any]] = [Running(), Pending(), Running(), Running(), Pending()]
        killed, taken, ended, alive, submitting = [
            await client.create_flow_run(nothing, state=state, tags=["cscm", "chain"]) for state in states
        ]
        await client.set_flow_run_state(submitting.id, Pending(name="Submitting"), force=True)  # as a worker does
        others = [await client.create_flow_run(nothing, state=state, tags=["b"]) for state in states[:2]]
        for run in (*others, killed, ended, alive):
            beat(run)
        await client.set_flow_run_state(ended.id, Completed(name="Refused"))
        names: list[str | None] = []
        end = time.monotonic() + 120
        gone = ["Crashed"] * 3
        while names[:3] != gone and time.monotonic() < end:
            await asyncio.sleep(2)
            beat(alive)
            runs = (killed, taken, submitting, ended, alive, *others)
            names = [present((await client.read_flow_run(run.id)).state).name for run in runs]

    assert names == [*gone, "Refused", "Running", "Running", "Pending"]
