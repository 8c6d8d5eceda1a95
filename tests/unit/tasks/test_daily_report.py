"""The data of the daily report: Prefect's runs, its events over all pages, and dead letters."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.events import Event, Resource
from prefect.states import Scheduled

from blocks import Bridge, Inventory, Workbench
from orchestration.clock import now
from supply_chain.errors import SettingInvalid
from supply_chain.fleet.break_glass import OpenBreakGlass
from supply_chain.model.image import ImageRef
from supply_chain.policy.outcome import UsedBreakGlass
from tasks import daily_report
from tests.support.builders import DIGEST, NOON
from tests.support.people import Office, copy_shipped

OPEN = OpenBreakGlass(
    image=ImageRef(repository="curated/hello", digest=DIGEST), environment="production", owner="web",
    use=UsedBreakGlass(by="ann", reason="outage", expires=NOON),
)  # fmt: skip
PROJECT = Path(__file__).parents[3]


def workbench(project: Path, owner: str = "") -> Workbench:
    return Workbench(project=str(project), tools="/nowhere", database="/nowhere", people_owner=owner)


def dead(monkeypatch, number):
    """Set up a bridge with a number of dead letters, or no bridge for None."""

    async def load(name):
        if number is None:
            raise SettingInvalid(f"Prefect has no block {name}.\nMake it.")
        return SimpleNamespace(dead_letters=lambda: SimpleNamespace(count=lambda: number))

    monkeypatch.setattr(Bridge, "aload", load)


@pytest.mark.parametrize("number", [3, 0, None])
async def test_dead_letters_are_counted_if_there_is_a_bridge(monkeypatch, number):
    """Without a bridge, the number is unknown, which is not zero."""
    dead(monkeypatch, number)

    assert await daily_report._dead_letters() == number


@pytest.mark.parametrize(("payload", "detail"), [
    ({"by": "ann", "reason": "a key", "unchanged": "", "running": ["staging"], "origin": "tier"}, "ann, a key"),
    ({"gate": "release", "reasons": [{"code": "scan.high"}, {"code": "scan.high"}]}, "release, scan.high"),
    ({"from": "passed", "to": "refused", "reasons": [{"code": "scan.kev"}], "owner": "x"}, "passed, refused, scan.kev"),
    ({"environment": "production", "decision": "denied", "by": "Ada", "reason": "no"}, "production, denied, Ada, no"),
    ({"environment": "staging", "reasons": ["scan.high", {"fact": "x"}]}, "staging"),
    ({"environment": "e", "by": "ann", "until": "2026-11-24T20:00", "reason": "x"}, "e, ann, 2026-11-24T20:00, x"),
    ({}, ""),
])  # fmt: skip
def test_detail_of_event_lists_selected_values(payload, detail):
    """Each code appears once, and other parts of the payload are left out."""
    assert daily_report._detail(payload) == detail


async def test_events_are_read_from_all_pages(machine, monkeypatch):
    """Earlier events and events that are no change are left out."""
    monkeypatch.setattr(daily_report, "EVENTS", 2)
    since = now() - timedelta(days=2, seconds=Random().uniform(0, 80_000))
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
    dead(monkeypatch, 2)

    async def load(name: str) -> SimpleNamespace:
        return SimpleNamespace(open=lambda: "the inventory")

    monkeypatch.setattr(Inventory, "aload", load)
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
            due: State[None] = Scheduled(scheduled_time=now() - timedelta(hours=hours))
            run = await client.create_flow_run_from_deployment(  # Prefect's client repeats a request on a busy server
                nightly, name=name, state=due, idempotency_key=f"{name} {state_name}"
            )
            await client.set_flow_run_state(
                run.id, State(type=StateType(kind), name=state_name, message="why"), force=True
            )
    await by_hand()
    until = now() + timedelta(minutes=1)

    report = await daily_report.collect_step.fn(until, 24, workbench(PROJECT))

    def mine(runs):
        return sorted((run.deployment, run.state) for run in runs if run.name == name)

    assert (report.since, report.until, report.dead_letters) == (until - timedelta(hours=24), until, 2)
    assert mine(report.runs) == [("", "Completed"), (f"{name}/nightly", "Failed")]
    assert mine(report.waiting) == [(f"{name}/nightly", "Suspended")]
    assert {run.message for run in (*report.runs, *report.waiting) if run.deployment == f"{name}/nightly"} == {"why"}
    assert "Failed last night" in report.views
    assert report.waivers == "" and report.break_glass == (OPEN,)


def test_report_says_why_the_policies_are_not_active(tmp_path):
    """Those of the repository are; after a change, nobody has signed them."""
    copy_shipped(tmp_path)
    assert daily_report._read_policies(workbench(tmp_path))[0] == ""

    file = tmp_path / "deployments/policies/release.yaml"
    file.write_text(file.read_text().replace("version: 1", "version: 2"))
    why, policies = daily_report._read_policies(workbench(tmp_path))
    assert why.startswith("no gate decides: ") and why.endswith("nobody signed it") and policies is not None
    (tmp_path / "deployments/names.yaml").unlink()
    why, policies = daily_report._read_policies(workbench(tmp_path))
    assert "names.yaml does not exist" in why and policies is not None


def test_report_reads_policies_although_an_environment_is_invalid(tmp_path):
    """The rules that begin soon and the waivers are reported all the same."""
    copy_shipped(tmp_path)
    (tmp_path / "deployments/environments/broken.yaml").write_text("soak: soon")

    why, policies = daily_report._read_policies(workbench(tmp_path))

    assert "broken.yaml" in why and policies is not None


def test_invalid_policies_do_not_end_the_report(tmp_path):
    """It is the page on which an operator reads that they are invalid."""
    copy_shipped(tmp_path)
    (tmp_path / "deployments/policies/release.yaml").write_text("name: [")

    why, policies = daily_report._read_policies(workbench(tmp_path))

    assert policies is None
    assert "nobody signed it; " in why and "release.yaml" in why


async def test_report_names_waivers_that_need_attention(monkeypatch, tmp_path):
    """They are those of the project, with the images that rest on them."""
    shutil.copytree(PROJECT / "deployments/policies", tmp_path / "deployments/policies")
    office = Office(tmp_path)
    office.write_people(at=now(), days=366)
    office.waive("idle", at=now(), expires=now() + timedelta(days=30))
    asked = []

    async def load(name: str) -> SimpleNamespace:
        asked.append(name)
        return SimpleNamespace(open=lambda: SimpleNamespace(images=lambda _: iter(())))

    monkeypatch.setattr(Inventory, "aload", load)

    found = await daily_report._find_uses(workbench(tmp_path, office.owner.public).unsigned_policies())

    assert asked == ["inventory"]
    assert [(each.waiver.name, each.waiver.state, each.images) for each in found] == [("idle", "active", ())]
