"""The project's own files: what a tool would silently ignore or forget is checked here."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from flows.respond import alert
from orchestration import events
from orchestration.announcements import WAITING, event_of
from orchestration.registration.abandoned_runs import SILENT
from orchestration.registration.automations import TELLER, as_prefect, read_automations
from orchestration.registration.deployments import TAG
from orchestration.registration.work_queues import declared_pool
from supply_chain.execution.environment import read_environments
from supply_chain.model.image import ImageRef
from supply_chain.model.manifest import json_schema, read_manifest
from supply_chain.promotion.coalescing import AT_ONCE
from supply_chain.promotion.pushes import Pushed
from supply_chain.reports.daily import COVERED
from tasks import source
from tasks.rescan import RESCAN, SIGNED

ROOT = Path(__file__).parents[2]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WorkPool(Strict):
    name: str
    work_queue_name: str = "default"


class Trigger(Strict):
    type: Literal["event"]
    name: str
    expect: list[str]
    match: dict[str, str]
    parameters: dict[str, str | bool]

    @property
    def templates(self) -> list[str]:
        """The parameters that the event fills in."""
        return [each for each in self.parameters.values() if isinstance(each, str)]


class ConcurrencyLimit(Strict):
    limit: int
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]


class Schedule(Strict):
    cron: str
    timezone: str
    slug: str


class Deployment(Strict):
    name: str
    entrypoint: Annotated[str, StringConstraints(pattern=r"^flows\.\w+:\w+$")]
    description: str
    tags: list[str]
    work_pool: WorkPool
    triggers: list[Trigger] = []
    schedules: list[Schedule] = []
    concurrency_limit: ConcurrencyLimit | None = None
    parameters: dict[str, Any] = {}


class PrefectYaml(Strict):
    name: str
    definitions: dict[str, Any]
    deployments: list[Deployment] = Field(min_length=1)


DEPLOYMENTS = PrefectYaml.model_validate(yaml.safe_load((ROOT / "prefect.yaml").read_text())).deployments


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: f"{d.entrypoint}-{d.name}")
def test_a_deployment_names_a_described_async_flow_and_its_parameters(deployment: Deployment) -> None:
    """Prefect ignores a misspelt key and finds a wrong parameter only when the event comes."""
    module, _, name = deployment.entrypoint.partition(":")
    found = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(found.fn).parameters

    assert isinstance(found, Flow) and inspect.iscoroutinefunction(found.fn)
    for trigger in deployment.triggers:
        assert set(trigger.parameters) <= set(parameters)
    for schedule in deployment.schedules:
        assert CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    described = found.parameters.properties
    assert all(described[each].get("description") for each in parameters), "the form needs a description for each"


@pytest.mark.parametrize(
    "change",
    [{"enrtypoint": "x"}, {"work_pool": {"nam": "x"}}, {"entrypoint": "flows/chain.py:chain"}, {"triggers": [{}]}],
    ids=lambda change: next(iter(change)),
)
def test_a_misspelt_key_is_found(change: dict[str, Any]) -> None:
    """That is what the model above is for."""
    good = DEPLOYMENTS[0].model_dump(exclude_unset=True)

    assert Deployment.model_validate(good)
    with pytest.raises(ValidationError):
        Deployment.model_validate({**good, **change})


def test_a_push_starts_a_chain_with_what_the_hook_posts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger's event, resource and payload are those of `post_pushed`; else nothing would start."""
    posted: dict[str, Any] = {}
    monkeypatch.setattr(events, "emit_event", lambda **event: posted.update(event))
    monkeypatch.setattr(events.EventsWorker, "instance", lambda: SimpleNamespace(drain=lambda: None))
    source.post_pushed(Path("/shop/hello"), "a" * 40, "refs/heads/main")
    (trigger,) = next(d for d in DEPLOYMENTS if d.name == "on-push").triggers

    assert posted["event"] in trigger.expect
    assert fnmatch.fnmatch(posted["resource"]["prefect.resource.id"], trigger.match["prefect.resource.id"])
    for template in trigger.templates:
        field = re.fullmatch(r"\{\{ event\.payload\.(\w+) \}\}", template)
        assert field and field[1] in posted["payload"]


def test_the_deployments_that_operators_know_are_there() -> None:
    """Their names are part of what others rely on."""
    names = {f"{d.entrypoint.partition(':')[2]}/{d.name}" for d in DEPLOYMENTS}

    assert names >= {
        "chain/on-demand", "chain/on-push", "monitor/every-5-minutes",
        "develop/on-demand", "curate/on-demand", "execute/on-demand", "approve/on-demand",
        "promote/on-demand", "promote/on-push", "promote/on-admitted", "promote/on-soaked",
        "reconcile/curation", "reconcile/execution",
        "respond/on-blocked", "respond/on-verdict-changed", "respond/on-drift", "alert/on-demand",
    }  # fmt: skip


def test_every_deployment_carries_the_tag_by_which_it_is_known_as_ours() -> None:
    """On a server for many, `cscm register` removes what carries it and is declared no more."""
    assert [d.name for d in DEPLOYMENTS if TAG not in d.tags] == []


IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)


def matched(trigger: Trigger, event: dict[str, Any]) -> bool:
    """Whether Prefect would fire it: by the event's name and the labels of its resource."""
    labels = event["resource"]
    return event["event"] in trigger.expect and all(
        fnmatch.fnmatch(labels.get(label, ""), pattern) for label, pattern in trigger.match.items()
    )


def started(event: dict[str, Any]) -> list[str]:
    """The deployments that an event starts; what their parameters need is in it."""
    found = [(d, t) for d in DEPLOYMENTS for t in d.triggers if matched(t, event)]
    for _, trigger in found:
        for template in trigger.templates:
            assert re.fullmatch(r"\{\{ [^{}]*\bevent\.(?:payload\.\w+|event)\b[^{}]* \}\}", template), template
            assert set(re.findall(r"event\.payload\.(\w+)", template)) <= event["payload"].keys(), template
    return [f"{d.entrypoint.partition(':')[2]}/{d.name}" for d, _ in found]


def test_a_pushed_image_starts_its_promotion() -> None:
    """What the bridge posts is what the trigger waits for."""
    pushed = Pushed(event="1", at=datetime.now(UTC), image=IMAGE, tag="t")

    assert started(event_of(pushed).model_dump(mode="json")) == ["promote/on-push"]


def test_many_pushes_at_once_start_a_catch_up_run() -> None:
    """What the bridge posts then is what that trigger waits for."""
    event = {"event": WAITING, "resource": {"prefect.resource.id": "cscm.bridge"}, "payload": {}}

    assert started(event) == ["reconcile/on-pushes"]
    (limit,) = (d.concurrency_limit for d in DEPLOYMENTS if f"reconcile/{d.name}" == COVERED)
    assert limit == ConcurrencyLimit(limit=2, collision_strategy="CANCEL_NEW"), (
        "one looks, and one waits for all others"
    )


def test_what_events_start_leaves_places_in_the_pool_for_everything_else() -> None:
    """The limits of the queues add up to less than the pool's; a run of a limited queue is started by events alone."""
    pool = declared_pool(ROOT)
    assert pool is not None
    limits = {queue.name: queue.limit for queue in pool.queues}

    assert sum(limit or 0 for limit in limits.values()) + 4 <= pool.limit
    assert limits["pushes"] == AT_ONCE
    assert {d.work_pool.work_queue_name for d in DEPLOYMENTS} <= limits.keys()
    assert [q.priority for q in pool.queues] == list(range(1, len(pool.queues) + 1))


def test_whatever_an_event_starts_has_a_limit() -> None:
    """Of its queue or its own: one rescan makes an event of each image that a new vulnerability is in."""
    pool = declared_pool(ROOT)
    assert pool is not None
    limited = {queue.name for queue in pool.queues if queue.limit}
    by_event = [d for d in DEPLOYMENTS if d.triggers or f"{d.entrypoint.partition(':')[2]}/{d.name}" == TELLER]

    assert len(by_event) > 10
    assert [d for d in by_event if d.work_pool.work_queue_name not in limited and d.concurrency_limit is None] == []


def test_what_was_missed_takes_no_place_from_deployments_and_is_coalesced() -> None:
    """A catch-up of many applications would otherwise keep everybody's deployments, and wait for hours."""
    promotions = {d.name: d for d in DEPLOYMENTS if d.entrypoint == "flows.promote:promote"}
    queues = {name: d.work_pool.work_queue_name for name, d in promotions.items()}

    assert queues["on-missed"] not in {queue for name, queue in queues.items() if name != "on-missed"}
    assert promotions["on-missed"].parameters == {"newest": True}


BOTH = ["respond/on-verdict-changed", "inventory/on-event"]


@pytest.mark.parametrize(
    ("name", "payload", "alone", "in_a_chain"),
    [
        ("image.signed", {}, ["inventory/on-event"], ["inventory/on-event"]),
        ("image.offered", {}, [], []),
        ("image.admitted", {"gate": "release"}, ["promote/on-admitted", "inventory/on-event"], []),
        *(("image.admitted", {"gate": each}, ["inventory/on-event"], []) for each in ("intake", "deploy")),
        ("deployment.started", {}, ["inventory/on-event"], ["inventory/on-event"]),
        ("deployment.soaked", {"environment": "staging"}, ["promote/on-soaked"], ["promote/on-soaked"]),
        (
            "image.blocked",
            {"by": "ann", "why": "x"},
            ["respond/on-blocked", "inventory/on-event"],
            ["respond/on-blocked", "inventory/on-event"],
        ),
        *((f"image.{name}", {}, ["inventory/on-event"], ["inventory/on-event"]) for name in ("held", "refused")),
        ("image.verdict-changed", {"reasons": []}, BOTH, BOTH),
        ("deployment.drifted", {"deviations": []}, ["respond/on-drift"], ["respond/on-drift"]),
    ],
)
def test_an_event_starts_what_it_should_and_a_chains_own_no_tier(
    monkeypatch: pytest.MonkeyPatch, name: str, payload: dict[str, Any], alone: list[str], in_a_chain: list[str]
) -> None:
    """A chain goes on by itself: its events would start the next tier twice."""
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: emitted.append(event))
    events.emit(name, IMAGE, **payload)
    with events.in_a_chain():
        events.emit(name, IMAGE, **payload)

    assert [sorted(started(event)) for event in emitted] == [sorted(alone), sorted(in_a_chain)]


def test_what_a_rescan_signed_is_read_by_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, as it is of many applications."""
    assert started({"event": SIGNED, "resource": RESCAN, "payload": {}}) == ["inventory/on-event"]


@pytest.mark.parametrize("name", ["image.blocked", "image.unblocked"])
def test_a_base_that_is_blocked_or_unblocked_has_what_is_built_on_it_judged(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Every rescan asks how the bases stand; for other images none is started."""
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: emitted.append(event))
    for repository in ("curated/base/python", "curated/hello"):
        events.emit(name, ImageRef(repository=repository, digest=IMAGE.digest), by="ann", why="x")

    base, other = map(started, emitted)
    assert set(base) - set(other) == {"rescan/on-base-ruled"}


def test_what_events_start_is_told_apart_from_what_people_start() -> None:
    """By a tag, for which the automations look: a failure that nobody waits for is told."""
    assert {(d.entrypoint, d.name) for d in DEPLOYMENTS if "by-event" in d.tags} == {
        (d.entrypoint, d.name) for d in DEPLOYMENTS if d.triggers
    }
    told = [
        each.trigger.match_related
        for each in read_automations(ROOT / "deployments/automations")
        if "prefect.flow-run.Failed" in each.trigger.expect
    ]
    assert told and all("prefect.tag.by-event" in each["prefect.resource.id"] for each in told)


def test_the_automations_that_ship_are_well_formed_and_tell_what_to_do() -> None:
    """A failed run, one that did not start, a block that is not held, an event that started nothing, a lost runner."""
    found = read_automations(ROOT / "deployments/automations")

    expected = {name for each in found for name in each.trigger.expect}
    assert expected == {
        "prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.Late",
        "prefect.automation.action.failed", "prefect.flow-run.Foreign", "prefect.work-pool.not-ready",
        "prefect.flow-run.Unenforced",
    }  # fmt: skip
    for each in found:
        (parameters,) = (a["parameters"] for a in as_prefect(each, {"type": "run-deployment"})["actions"])
        assert set(parameters) == set(inspect.signature(alert.fn).parameters)


def test_a_run_that_stays_suspended_is_no_alert() -> None:
    """The automation for silent runs fails where Prefect does not let it move one that is suspended."""
    (failed,) = [
        each.trigger.match
        for each in read_automations(ROOT / "deployments/automations")
        if "prefect.automation.action.failed" in each.trigger.expect
    ]

    assert failed["prefect.resource.name"] == f"!{SILENT}"


def test_the_schema_that_editors_read_is_the_models() -> None:
    """`cscm schema > docs/supply-chain.schema.json` makes it."""
    assert json.loads((ROOT / "docs/supply-chain.schema.json").read_text()) == json_schema()


def test_the_lock_pins_by_hash_and_names_no_address() -> None:
    """Whoever installs chooses the index; what is installed is what was locked."""
    for name in ("requirements.lock", "deployments/emulator.lock"):
        text = (ROOT / name).read_text()
        pinned = re.findall(r"^[A-Za-z0-9._-]+(?:\[.*\])?[ =].*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        assert pinned
        assert [
            each for each in pinned if "==" not in each or not re.search(r"--hash=sha256:[0-9a-f]{64}\b", each)
        ] == []
        assert not re.search(r"://|--index|--find-links|^-", text, re.MULTILINE)


EXECUTED = ("cscm_laptop.emulator", "supply_chain.adapters.database.migrations.env")


@pytest.mark.parametrize("package", ["supply_chain", "cscm", "flows", "tasks", "blocks"])
def test_every_module_can_be_imported(package: str) -> None:
    """Also those that nothing imports at the time of the tests.

    The emulator has an environment of its own, and what Alembic runs can be imported by nobody else.
    """
    top = importlib.import_module(package)
    names = [m.name for m in pkgutil.walk_packages(top.__path__, f"{package}.")]
    imported = [importlib.import_module(n) for n in names if not n.startswith(EXECUTED)]

    assert imported


@pytest.mark.parametrize(
    "directory",
    [p for p in (*sorted(ROOT.glob("examples/*")), *sorted(ROOT.glob("bases/*"))) if p.name not in ("outside", "self")],
    ids=lambda p: p.name,
)
def test_every_application_declares_itself_well(directory: Path) -> None:
    """Examples are what people copy."""
    assert read_manifest(directory).name.endswith(directory.name)


def test_environments_are_well_formed_and_share_no_address() -> None:
    """Two applications at one address would stop each other."""
    assert {e.name for e in read_environments(ROOT / "deployments/environments")} >= {"staging", "production"}


def test_the_repository_does_not_name_where_it_is_checked_out() -> None:
    """A path of one machine means nothing on another."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = [
        name
        for name in tracked
        if (ROOT / name).suffix not in {".png", ".xz"} and str(ROOT) in (ROOT / name).read_text(errors="replace")
    ]

    assert not found
