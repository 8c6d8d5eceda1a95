"""respond: cancelled runs, and a task that is tried again."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Pending, Running, Suspended

from supply_chain.errors import RegistryUnavailable
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.model.image import ImageRef
from tasks import respond
from tests.support.builders import DIGEST
from tests.support.present import present


async def test_temporary_error_is_retried_before_it_is_reported(machine, monkeypatch):
    """The task itself retries and finally reports the error."""
    tries = []

    def down(*_):
        tries.append(1)
        raise RegistryUnavailable("it is down")

    monkeypatch.setattr(respond, "read_expected", down)
    ports: Any = SimpleNamespace(
        repositories=None, registry=None, evidence=SimpleNamespace(read_verified=lambda *_: ()),
        workbench=SimpleNamespace(environment_documents=lambda: EnvironmentDocuments((), {})),
    )  # fmt: skip
    find_at_once = respond.find_deployments_step.with_options(retry_delay_seconds=0, retry_jitter_factor=0)
    image, promotions = ImageRef(repository="curated/hello", digest=DIGEST), respond.PromotionsInProgress([])

    found = await find_at_once(image, "cscm.image.verdict-changed", (), promotions, respond.RejudgeResult(), ports)

    assert len(tries) == 4 and found.unread[0].startswith("what runs is unknown: it is down")


async def test_cancel_ends_waiting_runs_and_asks_running_ones_to_end(machine, monkeypatch):
    """A running process goes on until its worker ends it, so the report warns of its effects."""
    monkeypatch.setattr(respond, "ENDED", 0.0)
    async with get_client() as client:
        flow = await client.create_flow_from_name("promote")
        made = await client.create_deployment(flow, uuid4().hex, parameter_openapi_schema={})
        runs = [await client.create_flow_run_from_deployment(made) for _ in range(5)]
        scheduled, pending, running, suspended, deleted = runs
        for run in (pending, running, suspended):
            await client.set_flow_run_state(run.id, Pending())
        for run in (running, suspended):
            await client.set_flow_run_state(run.id, Running())
        await client.set_flow_run_state(suspended.id, Suspended())
        await client.delete_flow_run(deleted.id)

        now = [await client.read_flow_run(run.id) for run in runs[:4]]
        going_on = await respond._cancel([deleted, *now], "it was blocked")

        found = [
            present((await client.read_flow_run(each.id)).state) for each in (scheduled, pending, running, suspended)
        ]
    assert [each.name for each in found] == ["Cancelled", "Cancelling", "Cancelling", "Cancelled"]
    assert {each.message for each in found} == {"it was blocked"}
    assert sorted(going_on) == sorted(
        f"{run.name} has not ended yet: what it deploys is not listed here" for run in (pending, running)
    )


async def test_cancel_waits_for_end_of_running_promotion(machine, monkeypatch):
    """The run may be signing the record of a deployment at this moment."""
    monkeypatch.setattr(respond, "POLL", 0.01)
    async with get_client() as client:
        made = await client.create_deployment(
            await client.create_flow_from_name("promote"), uuid4().hex, parameter_openapi_schema={}
        )
        run = await client.create_flow_run_from_deployment(made)
        states: tuple[State[None], ...] = (Pending(), Running())
        for state in states:
            await client.set_flow_run_state(run.id, state)
        waiting = asyncio.ensure_future(respond._cancel([await client.read_flow_run(run.id)], "it was blocked"))
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        await client.set_flow_run_state(run.id, Cancelled())

    assert not done and await waiting == []
