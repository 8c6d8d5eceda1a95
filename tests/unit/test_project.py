"""The files of the project: mistakes that a tool would silently ignore."""

from __future__ import annotations

import ast
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
from prefect import Flow, Task
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.utilities.user_templates import render_user_template_sync
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from flows.respond import alert
from orchestration import events
from orchestration.announcements import PUSHES_WAITING, make_event
from orchestration.push_places import TAGS
from orchestration.registration import read_declared_entrypoints
from orchestration.registration.abandoned_runs import SILENT
from orchestration.registration.automations import ALERT, read_automations, translate_to_prefect
from orchestration.registration.deployments import TAG
from orchestration.registration.prefect_file import read_declared_pool
from orchestration.rescan_report import RESCAN, SIGNED
from orchestration.source_pushes import BUILD_PUSH
from supply_chain.execution.environment_documents import read_environments
from supply_chain.model.declaration import make_json_schema, read_declaration
from supply_chain.model.image import ImageRef
from supply_chain.promotion.coalescing import AT_ONCE
from supply_chain.promotion.pushes import Pushed
from supply_chain.reports.daily import COVERED

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
    schedule_after: float = 0

    @property
    def templates(self) -> list[str]:
        """The parameters that are filled in from the event."""
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
def test_deployment_has_described_async_flow_with_its_parameters(deployment: Deployment) -> None:
    """Prefect ignores a misspelled key, and finds a wrong parameter only when the event comes."""
    module, _, name = deployment.entrypoint.partition(":")
    found = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(found.fn).parameters

    assert isinstance(found, Flow) and inspect.iscoroutinefunction(found.fn)
    assert read_declared_entrypoints(ROOT)[f"{found.name}/{deployment.name}"] == deployment.entrypoint
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
def test_misspelled_deployment_key_is_refused(change: dict[str, Any]) -> None:
    """The model above exists for this purpose."""
    good = DEPLOYMENTS[0].model_dump(exclude_unset=True)

    assert Deployment.model_validate(good)
    with pytest.raises(ValidationError):
        Deployment.model_validate({**good, **change})


def test_push_is_built_as_by_event() -> None:
    """The deployment that the git hook names keeps to promotion freezes, also if somebody starts it in the UI."""
    (declared,) = (d for d in DEPLOYMENTS if f"{d.entrypoint.partition(':')[2]}/{d.name}" == BUILD_PUSH)

    assert declared.parameters == {"by_event": True}
    assert set(TAGS) <= set(declared.tags)


def test_public_deployments_exist() -> None:
    """Others rely on their names."""
    names = {f"{d.entrypoint.partition(':')[2]}/{d.name}" for d in DEPLOYMENTS}

    assert names >= {
        "chain/on-demand", "chain/on-push", "monitor/every-5-minutes",
        "build/on-demand", "curate/on-demand", "deploy/on-demand", "approve/on-demand",
        "promote/on-demand", "promote/on-push", "promote/on-admitted", "promote/on-soaked",
        "catch_up/curation", "catch_up/execution",
        "respond/on-blocked", "respond/on-verdict-changed", "respond/on-drift", "alert/on-demand",
        "judge_release/on-blocked", "renew/hourly", "withdraw/curation", "withdraw/execution",
    }  # fmt: skip


def test_every_deployment_has_project_tag() -> None:
    """On a shared server, `cscm register` removes undeclared deployments with this tag."""
    assert [d.name for d in DEPLOYMENTS if TAG not in d.tags] == []


IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)


def matched(trigger: Trigger, event: dict[str, Any]) -> bool:
    """Return whether Prefect would fire the trigger, by event name and labels of the resource."""
    labels = event["resource"]
    return event["event"] in trigger.expect and all(
        fnmatch.fnmatch(labels.get(label, ""), pattern) for label, pattern in trigger.match.items()
    )


def started(event: dict[str, Any]) -> list[str]:
    """Return the deployments that an event starts, after a check that Prefect can write their parameters.

    Prefect writes each as JSON, and starts nothing where that fails: `event.occurred` alone is no JSON.
    """
    found = [(d, t) for d in DEPLOYMENTS for t in d.triggers if matched(t, event)]
    happened = SimpleNamespace(payload=event["payload"], event=event["event"], occurred=datetime.now(UTC))
    for _, trigger in found:
        for template in trigger.templates:
            assert re.fullmatch(r"\{\{ [^{}]*\bevent\.(?:payload\.\w+|event|occurred)\b[^{}]* \}\}", template), template
            assert set(re.findall(r"event\.payload\.(\w+)", template)) <= event["payload"].keys(), template
            json.loads(render_user_template_sync(template.replace(" }}", " | tojson }}"), {"event": happened}))
    return [f"{d.entrypoint.partition(':')[2]}/{d.name}" for d, _ in found]


def test_pushed_image_starts_promotion() -> None:
    """The trigger matches the event of the bridge."""
    pushed = Pushed(event="1", at=datetime.now(UTC), image=IMAGE, tag="t")

    assert started(make_event(pushed, followed=False).model_dump(mode="json")) == ["promote/on-push"]


def test_event_of_many_pushes_starts_catch_up_run() -> None:
    """The trigger matches the event of the bridge."""
    event = {"event": PUSHES_WAITING, "resource": {"prefect.resource.id": "cscm.bridge"}, "payload": {}}

    assert started(event) == ["catch_up/on-pushes"]
    (limit,) = (d.concurrency_limit for d in DEPLOYMENTS if f"catch-up/{d.name}" == COVERED)
    assert limit == ConcurrencyLimit(limit=2, collision_strategy="CANCEL_NEW"), (
        "one looks, and one waits for all others"
    )


def test_queue_limits_leave_places_in_work_pool() -> None:
    """The limits of the queues add up to less than that of the pool."""
    pool = read_declared_pool(ROOT)
    assert pool is not None
    limits = {queue.name: queue.limit for queue in pool.queues}

    assert sum(limit or 0 for limit in limits.values()) + 4 <= pool.limit
    assert limits["pushes"] == AT_ONCE
    assert {d.work_pool.work_queue_name for d in DEPLOYMENTS} <= limits.keys()
    assert [q.priority for q in pool.queues] == list(range(1, len(pool.queues) + 1))


def test_every_deployment_started_by_event_has_limit() -> None:
    """One rescan can emit an event for each affected image."""
    pool = read_declared_pool(ROOT)
    assert pool is not None
    limited = {queue.name for queue in pool.queues if queue.limit}
    by_event = [
        d for d in DEPLOYMENTS if d.triggers or f"{d.entrypoint.partition(':')[2]}/{d.name}" in (ALERT, BUILD_PUSH)
    ]

    assert len(by_event) > 10
    assert [d for d in by_event if d.work_pool.work_queue_name not in limited and d.concurrency_limit is None] == []


def test_missed_promotions_have_own_queue_and_are_coalesced() -> None:
    """A catch-up of many applications must not delay other promotions for hours."""
    promotions = {d.name: d for d in DEPLOYMENTS if d.entrypoint == "flows.promote:promote"}
    queues = {name: d.work_pool.work_queue_name for name, d in promotions.items()}

    assert queues["on-missed"] not in {queue for name, queue in queues.items() if name != "on-missed"}
    assert promotions["on-missed"].parameters == {"newest": True}


BOTH = ["respond/on-verdict-changed", "inventory/on-event"]
UNBLOCKED = ["judge_release/on-blocked", "inventory/on-event"]


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
            {"by": "ann", "reason": "x"},
            ["respond/on-blocked", "judge_release/on-blocked", "inventory/on-event"],
            ["respond/on-blocked", "judge_release/on-blocked", "inventory/on-event"],
        ),
        *((f"image.{name}", {}, ["inventory/on-event"], ["inventory/on-event"]) for name in ("held", "refused")),
        ("image.unblocked", {}, UNBLOCKED, UNBLOCKED),
        ("image.verdict-changed", {"reasons": []}, BOTH, BOTH),
        ("deployment.drifted", {"deviations": []}, ["respond/on-drift"], ["respond/on-drift"]),
    ],
)
def test_event_starts_expected_deployments_and_no_tier_twice(
    monkeypatch: pytest.MonkeyPatch, name: str, payload: dict[str, Any], alone: list[str], in_a_chain: list[str]
) -> None:
    """A chain starts its next tier itself, so its events must not."""
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: emitted.append(event))
    events.emit(name, IMAGE, **payload)
    with events.mark_as_chain():
        events.emit(name, IMAGE, **payload)

    assert [sorted(started(event)) for event in emitted] == [sorted(alone), sorted(in_a_chain)]


def test_response_to_a_block_has_the_processors_for_itself() -> None:
    """What else a block starts waits for longer than a worker fetches runs ahead, which is ten seconds."""
    delays = {
        (d.entrypoint, t.schedule_after) for d in DEPLOYMENTS for t in d.triggers if "cscm.image.blocked" in t.expect
    }

    assert {delay for entrypoint, delay in delays if entrypoint == "flows.respond:respond"} == {0}
    assert all(delay > 10 for entrypoint, delay in delays if entrypoint != "flows.respond:respond")


def test_rescan_event_starts_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It concerns many applications, so the whole inventory is refreshed."""
    assert started({"event": SIGNED, "resource": RESCAN, "payload": {}}) == ["inventory/on-event"]


@pytest.mark.parametrize("name", ["image.blocked", "image.unblocked"])
def test_block_or_unblock_of_base_starts_rescan(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Other images start no rescan."""
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: emitted.append(event))
    for repository in ("curated/base/python", "curated/hello"):
        events.emit(name, ImageRef(repository=repository, digest=IMAGE.digest), by="ann", reason="x")

    base, other = map(started, emitted)
    assert set(base) - set(other) == {"rescan/on-base-decision"}


def test_deployments_started_by_events_have_tag_for_alerts() -> None:
    """The automations use the tag to report failures that nobody waits for."""
    assert {(d.entrypoint, d.name) for d in DEPLOYMENTS if "by-event" in d.tags} == {
        (d.entrypoint, d.name) for d in DEPLOYMENTS if d.triggers or d.parameters.get("by_event")
    }
    resources = [
        each.trigger.match_related
        for each in read_automations(ROOT / "deployments/automations")
        if "prefect.flow-run.Failed" in each.trigger.expect
    ]
    assert resources and all("prefect.tag.by-event" in each["prefect.resource.id"] for each in resources)


def test_shipped_automations_are_valid_and_name_remedy() -> None:
    """They cover failed, late, foreign, unarchived and unprotected runs, failed actions and a lost worker."""
    found = read_automations(ROOT / "deployments/automations")

    expected = {name for each in found for name in each.trigger.expect}
    assert expected == {
        "prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.Late",
        "prefect.automation.action.failed", "prefect.flow-run.Foreign", "prefect.work-pool.not-ready",
        "prefect.flow-run.Unarchived", "cscm.environment.unprotected",
    }  # fmt: skip
    for each in found:
        (parameters,) = (a["parameters"] for a in translate_to_prefect(each, {"type": "run-deployment"})["actions"])
        assert set(parameters) == set(inspect.signature(alert.fn).parameters)


def test_suspended_run_causes_no_alert() -> None:
    """The automation for silent runs fails on a suspended run, which Prefect does not let it change."""
    (failed,) = [
        each.trigger.match
        for each in read_automations(ROOT / "deployments/automations")
        if "prefect.automation.action.failed" in each.trigger.expect
    ]

    assert failed["prefect.resource.name"] == f"!{SILENT}"


def test_schema_file_matches_models() -> None:
    """`cscm schema > docs/supply-chain.schema.json` writes it."""
    assert json.loads((ROOT / "docs/supply-chain.schema.json").read_text()) == make_json_schema()


def test_lock_files_pin_by_hash_and_name_no_url() -> None:
    """The user chooses the index, and gets the locked packages from it."""
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
    """This includes modules that no test imports, but neither the emulator nor the scripts of Alembic."""
    top = importlib.import_module(package)
    names = [m.name for m in pkgutil.walk_packages(top.__path__, f"{package}.")]
    imported = [importlib.import_module(n) for n in names if not n.startswith(EXECUTED)]

    assert imported


@pytest.mark.parametrize(("package", "kind"), [("tasks", Task), ("flows", Flow)])
def test_public_functions_are_steps_or_flows(package: str, kind: type) -> None:
    """Other functions belong to orchestration, blocks or the model; steps are named after what they call."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        defined = vars(importlib.import_module(module.name)).items()
        public = {name: each for name, each in defined if getattr(each, "__module__", "") == module.name}
        for name, each in public.items():
            if callable(each) and not isinstance(each, type) and not name.startswith("_"):
                assert isinstance(each, kind), f"{module.name}.{name}"
                assert name.endswith("_step") is (kind is Task), f"{module.name}.{name}"


@pytest.mark.parametrize(
    "directory",
    [p for p in (*sorted(ROOT.glob("examples/*")), *sorted(ROOT.glob("bases/*"))) if p.name not in ("outside", "self")],
    ids=lambda p: p.name,
)
def test_every_application_has_valid_declaration(directory: Path) -> None:
    """People copy the examples."""
    assert read_declaration(directory).name.endswith(directory.name)


def test_environments_are_valid_and_share_no_address() -> None:
    """Two applications at one address would stop each other."""
    assert {e.name for e in read_environments(ROOT / "deployments/environments")} >= {"staging", "production"}


def test_tracked_files_do_not_contain_path_of_checkout() -> None:
    """A path of one machine is useless on another."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = [
        name
        for name in tracked
        if (ROOT / name).suffix not in {".png", ".xz"} and str(ROOT) in (ROOT / name).read_text(errors="replace")
    ]

    assert not found


def imported_modules(path: Path) -> set[str]:
    """Return the modules of `tests` that a file imports, also from a package or by a relative name."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            found.update((module, *(f"{module}.{each.name}" for each in node.names)))
    return {name for name in found if (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()}


def importable(module: str, path: Path) -> bool:
    """Return whether a file of the tests may import a module of the tests."""
    target = ROOT / f"{module.replace('.', '/')}.py"
    if target.name == "conftest.py" or target.name.startswith("test_"):
        return False
    if target.parent.name in ("support", "contract") or path == ROOT / "tests/unit/test_mutation.py":
        return True
    return path.is_relative_to(target.parent)


def test_no_test_imports_from_another_test_or_a_conftest() -> None:
    """What several tests use is in `tests/support`, or in a plain module of their directory."""
    found = {path: imported_modules(path) for path in (ROOT / "tests").rglob("*.py")}
    ours = {path: {each for each in modules if each.startswith("tests.")} for path, modules in found.items()}

    assert sum(map(len, ours.values())) > 100
    assert [(str(path), each) for path, modules in ours.items() for each in modules if not importable(each, path)] == []
