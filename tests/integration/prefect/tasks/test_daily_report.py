"""The runs and events of the daily report, as Prefect's server has them."""

import asyncio
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.events import Event, Resource
from prefect.states import Scheduled

from blocks import Bridge, Inventory, Workbench
from orchestration.clock import read_clock
from supply_chain.fleet.break_glass import OpenBreakGlass
from supply_chain.model.image import ImageRef
from supply_chain.policy.outcome import UsedBreakGlass
from tasks import daily_report
from tests.support.builders import DIGEST, NOON
from tests.support.command import ROOT

OPEN = OpenBreakGlass(
    image=ImageRef(repository="curated/hello", digest=DIGEST), environment="production", owner="web",
    use=UsedBreakGlass(by="ann", reason="outage", expires=NOON),
)  # fmt: skip


async def test_events_are_read_from_all_pages(machine, monkeypatch):
    """Earlier events and events that are no change are left out."""
    monkeypatch.setattr(daily_report, "EVENTS", 2)
    since = read_clock() - timedelta(days=2, seconds=Random().uniform(0, 80_000))
    until = since + timedelta(milliseconds=50)

    def event(number, name="cscm.image.held", at=since):
        resource = {"prefect.resource.id": f"cscm.image.{number}", "prefect.resource.name": f"hello@{number}"}
        return Event(event=name, occurred=at, resource=Resource(resource), payload={"by": "ann"}, id=uuid4())

    wanted = [event(number, at=since + timedelta(milliseconds=number)) for number in range(5)]
    others = [event(8, "cscm.image.tested"), event(9, at=since - timedelta(milliseconds=1))]
    async with get_client() as client:
        sent = [each.model_dump(mode="json") for each in (*wanted, *others)]
        (await client.request("POST", "/events", json=sent)).raise_for_status()
        for _ in range(300):
            found = await daily_report._events(client, since, until)
            if len(found) >= len(wanted):
                break
            await asyncio.sleep(0.1)

    assert sorted((each.about, each.at, each.event, each.detail) for each in found) == [
        (f"hello@{number}", each.occurred, "cscm.image.held", "ann") for number, each in enumerate(wanted)
    ]


async def test_report_has_runs_of_period_and_all_waiting_runs(machine, monkeypatch):
    """Subflow runs belong to their parent, and a waiting run may have started earlier."""
    bridge = SimpleNamespace(dead_letters=lambda: SimpleNamespace(count=lambda: 2))
    monkeypatch.setattr(Bridge, "aload", AsyncMock(return_value=bridge))
    inventory = SimpleNamespace(open=lambda: "the inventory")
    monkeypatch.setattr(Inventory, "aload", AsyncMock(return_value=inventory))
    monkeypatch.setattr(daily_report, "find_open", lambda inventory: (OPEN,) if inventory == "the inventory" else ())
    name = f"rescan-{uuid4().hex[:8]}"

    @flow(name=name, flow_run_name=name)
    async def inside():
        return None

    @flow(name=name, flow_run_name=name)
    async def by_hand():
        await inside()

    async with get_client() as client:
        nightly = await client.create_deployment(await client.create_flow_from_name(name), "nightly")
        for kind, state_name, hours in (
            ("FAILED", "Failed", 1),
            ("PAUSED", "Suspended", 40),
            ("PAUSED", "Abandoned", 40),
            ("COMPLETED", "Completed", 40),
        ):
            due: State[None] = Scheduled(scheduled_time=read_clock() - timedelta(hours=hours))
            run = await client.create_flow_run_from_deployment(  # Prefect's client repeats a request on a busy server
                nightly, name=name, state=due, idempotency_key=f"{name} {state_name}"
            )
            await client.set_flow_run_state(
                run.id, State(type=StateType(kind), name=state_name, message="why"), force=True
            )
    await by_hand()
    until = read_clock() + timedelta(minutes=1)
    workbench = Workbench(project=str(ROOT), tools="/nowhere", database="/nowhere")

    report = await daily_report.collect_step.fn(until, 24, workbench)

    def mine(runs):
        return sorted((run.deployment, run.state) for run in runs if run.name == name)

    assert (report.since, report.until, report.dead_letters) == (until - timedelta(hours=24), until, 2)
    assert mine(report.runs) == [("", "Completed"), (f"{name}/nightly", "Failed")]
    assert mine(report.waiting) == [(f"{name}/nightly", "Suspended")]
    assert {run.message for run in (*report.runs, *report.waiting) if run.deployment == f"{name}/nightly"} == {"why"}
    assert "Failed last night" in report.views
    assert report.waivers == "" and report.break_glass == (OPEN,)
