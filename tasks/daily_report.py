"""Task of the daily report: collect what Prefect knows of the last night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactCollectionFilter,
    ArtifactCollectionFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter
from prefect.settings import get_current_settings

from blocks import Bridge, Inventory, Workbench
from orchestration.pagination import fetch_all
from orchestration.registration.views import read_views
from orchestration.steps import run_in_thread, step
from supply_chain.errors import DeclarationInvalid, PolicyInvalid, SettingInvalid
from supply_chain.fleet.break_glass import OpenBreakGlass, find_open
from supply_chain.fleet.waivers import WaiverUse, find_uses
from supply_chain.policy.policies import Policies
from supply_chain.policy.upcoming import enforce_upcoming, find_upcoming
from supply_chain.reports import list_waiver_notices, upcoming_rules_page, waiver_attention_table
from supply_chain.reports.daily import (
    AWAITS_DECISION,
    CHANGES,
    STABLE_ARTIFACTS,
    Change,
    DailyReport,
    Run,
    list_reported_changes,
)
from supply_chain.text import summarize_error

DETAILS = ("gate", "environment", "decision", "by", "until", "reason", "unchanged", "from", "to")
"""The fields of an event's payload that tell a person the reason, in this order."""
AHEAD = timedelta(days=14)
"""How long before a rule begins to refuse the report names it."""
EVENTS = 50
"""Number of events on the first page; Prefect returns the address of the next one."""


@step("collect runs and events")
async def collect_step(until: datetime, hours: int, workbench: Workbench) -> DailyReport:
    """Return the runs and events of the last hours, and what is open now."""
    since = until - timedelta(hours=hours)
    async with get_client() as client:
        night = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=since, before_=until))
        paused = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=list(AWAITS_DECISION))))
        runs, waiting = await _runs(client, night), await _runs(client, paused)
        names = await _deployments(client, [*runs, *waiting])
        events = await _events(client, since, until)
        latest = await client.read_latest_artifacts(
            artifact_filter=ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=list(STABLE_ARTIFACTS)))
        )
    inactive, policies = await run_in_thread(_read_policies, workbench)
    uses = await _find_uses(policies) if policies else ()
    return DailyReport(
        dead_letters=await _dead_letters(),
        policies=inactive,
        break_glass=await _break_glass(),
        upcoming=await _find_upcoming(policies, workbench, until) if policies else "",
        waivers=waiver_attention_table(uses, until),
        waiver_notices=list_waiver_notices(uses, until),
        since=since,
        until=until,
        runs=tuple(_run(each, names) for each in runs),
        waiting=tuple(_run(each, names) for each in waiting),
        changes=list_reported_changes(events),
        views={view.name: view.query for view in await run_in_thread(read_views, Path(workbench.project))},
        artifacts={each.key: str(each.latest_id) for each in latest if each.key},
        ui=str(get_current_settings().ui_url or ""),
    )


def _read_policies(workbench: Workbench) -> tuple[str, Policies | None]:
    """Return what no gate decides and why, empty if there is nothing; and the project's policies, None if invalid."""
    policies, problems = None, list[str]()
    try:
        problems += workbench.project_state(Path(workbench.project)).problems
    except (DeclarationInvalid, SettingInvalid) as error:  # also of one environment: policies are read all the same
        problems.append(summarize_error(error))
    try:
        policies = workbench.unsigned_policies()
    except (DeclarationInvalid, PolicyInvalid, SettingInvalid) as error:
        problems.append(summarize_error(error))
    return "; ".join(dict.fromkeys(problems)), policies


async def _find_upcoming(policies: Policies, workbench: Workbench, at: datetime) -> str:
    """Return the rules that begin to refuse soon, and what they would refuse; empty if there are none."""
    until = at + AHEAD
    rules = find_upcoming(policies, at, until)
    if not rules:
        return ""
    inventory: Inventory = await Inventory.aload("inventory")
    preview = await run_in_thread(workbench.preview, enforce_upcoming(policies, at, until), inventory)
    return upcoming_rules_page(rules, preview)


async def _find_uses(policies: Policies) -> tuple[WaiverUse, ...]:
    """Return the waivers with the images that rest on them."""
    waivers = policies.waivers.reports
    if not waivers:
        return ()
    inventory: Inventory = await Inventory.aload("inventory")
    return await run_in_thread(lambda: find_uses(waivers, inventory.open().images(None)))


async def _break_glass() -> tuple[OpenBreakGlass, ...]:
    """Return the deployments that rest on a break-glass."""
    inventory: Inventory = await Inventory.aload("inventory")
    return await run_in_thread(lambda: find_open(inventory.open()))


async def _dead_letters() -> int | None:
    """Return the number of messages that could not be read; None if no bridge is set up."""
    try:
        bridge: Bridge = await Bridge.aload("bridge")
    except SettingInvalid:
        return None
    return await run_in_thread(bridge.dead_letters().count)


async def _runs(client: PrefectClient, which: FlowRunFilter) -> list[FlowRun]:
    """Return all matching runs except subflow runs, latest first."""
    runs = await fetch_all(client.read_flow_runs, flow_run_filter=which, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
    return [run for run in runs if run.parent_task_run_id is None and run.state is not None]


async def _deployments(client: PrefectClient, runs: Sequence[FlowRun]) -> dict[UUID, str]:
    """Return `flow/deployment` by id, for the runs' deployments that still exist."""
    ids = sorted({run.deployment_id for run in runs if run.deployment_id})
    deployments = await client.read_deployments(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=ids)))
    flows = await client.read_flows(
        flow_filter=FlowFilter(id=FlowFilterId(any_=[each.flow_id for each in deployments]))
    )
    named = {each.id: each.name for each in flows}
    return {each.id: f"{named[each.flow_id]}/{each.name}" for each in deployments}


async def _events(client: PrefectClient, since: datetime, until: datetime) -> list[Change]:
    which = EventFilter(occurred=EventOccurredFilter(since=since, until=until), event=EventNameFilter(name=[*CHANGES]))
    page = await client.read_events(filter=which, limit=EVENTS)
    events = list(page.events)
    while page.next_page:
        page = await client.read_events_page(str(page.next_page))
        events += page.events
    return [
        Change(
            event=each.event,
            about=each.resource.name or each.resource.id,
            at=each.occurred,
            detail=_detail(each.payload),
        )
        for each in events
    ]


def _detail(payload: Mapping[str, Any]) -> str:
    """Return the reason in an event's payload, in one line."""
    reasons = [each["code"] for each in payload.get("reasons", ()) if isinstance(each, dict) and "code" in each]
    texts = [str(payload[key]) for key in DETAILS if payload.get(key)]
    return ", ".join((*texts, *dict.fromkeys(reasons)))


def _run(run: FlowRun, deployments: Mapping[UUID, str]) -> Run:
    assert run.state is not None
    return Run(
        id=run.id,
        name=run.name,
        deployment=deployments.get(run.deployment_id, "") if run.deployment_id else "",
        state=run.state.name or run.state.type.value.title(),
        message=run.state.message or "",
        at=run.start_time or run.expected_start_time or run.state.timestamp,
    )
