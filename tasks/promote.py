"""Tasks of a promotion: find an image's next move, sign decisions of people, and find runs in progress."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from functools import cache
from typing import Any

from prefect import task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import arun_deployment
from prefect.runtime import flow_run

from blocks import Tier, Workbench
from orchestration.clock import now
from orchestration.events import emit, event_id, is_recorded
from orchestration.pagination import fetch_all
from orchestration.registration.abandoned_runs import ABANDONED
from orchestration.steps import RETRYING, in_thread
from supply_chain.evidence.approval import Approval, to_sign
from supply_chain.evidence.statement import APPROVAL, PROVENANCE
from supply_chain.execution.records import read_expected
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.tier import OFFERED, TierName, curated_repository
from supply_chain.policy.reading import execution_statements
from supply_chain.policy.verdict import execution_place
from supply_chain.promotion.moves import Move, reportable_moves
from supply_chain.promotion.offered import missed_curations, plan_curation, plan_newest_curation
from supply_chain.promotion.released import View, missed_deployments, plan_deployment, require_healthy
from tasks.soak import soaking_of

EVIDENCE = 60
"""Seconds to wait for development's evidence, which is attached after the push that was announced."""
POLL = 2
FLOW = "promote"
TO_CURATION, TO_EXECUTION = f"{FLOW}/on-missed", f"{FLOW}/on-demand"
"""The deployments that `start` runs; each tier's runs are the work of its own workers."""
STALE = timedelta(hours=6)
"""Age after which a run counts as dead: twice what a run may wait for a chain, plus the time of a deployment."""
ON_THE_WAY = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED)


@task(name="wait for evidence", task_run_name="wait for evidence", **RETRYING)
async def offered(ref: ImageRef, tier: Tier, workbench: Workbench) -> None:
    """Wait at most `EVIDENCE` seconds for the evidence of an image that is still being signed."""
    store, until = tier.evidence(workbench), time.monotonic() + EVIDENCE
    if not (await in_thread(plan_curation, ref, tier.ecr, store)).waits:
        return
    while time.monotonic() < until:
        if await in_thread(store.verified, ref, TierName.DEVELOPMENT, PROVENANCE):  # others need no second check
            return
        await asyncio.sleep(POLL)


@task(name="find the move at the intake gate", task_run_name="find the move at the intake gate", **RETRYING)
async def due_at_curation(ref: ImageRef, tier: Tier, workbench: Workbench, *, newest: bool = False) -> Move:
    """Return the move that is due for an offered image.

    With `newest`, if none is due for that image, return the move of its application's newest offered image.
    """
    store = tier.evidence(workbench)
    move = await in_thread(plan_curation, ref, tier.ecr, store)
    return await in_thread(plan_newest_curation, ref, tier.ecr, store) if newest and not move.to else move


@task(name="find the move at the deploy gate", task_run_name="find the move at the deploy gate", **RETRYING)
async def due_at_execution(ref: ImageRef, after: str | None, tier: Tier, workbench: Workbench) -> Move:
    """Return the move that is due for a curated image: its environment, and whether a person must decide first."""
    view = _view(tier, workbench, ref.application)
    return await _as_seen(await in_thread(plan_deployment, ref, after, view), view)


async def _as_seen(move: Move, view: View) -> Move:
    if not move.to or move.after is None:
        return move
    there = await in_thread(view.current, move.image.application, move.after)
    return require_healthy(move, there, await soaking_of(move.after, move.image.application))


@task(name="sign the decision", task_run_name="sign the decision", **RETRYING)
async def sign_decision(
    ref: ImageRef, decision: Approval, tier: Tier, workbench: Workbench, *, sent: bool = False
) -> None:
    """Sign a person's decision as execution's evidence; the deploy gate reads that and nothing else.

    `sent` is that of `evidence.approval.to_sign`: the decision was made in a form.
    """
    where, evidence = execution_place(ref), tier.evidence(workbench)

    number = event_id("image.decided", f"{ref} {decision.predicate()}")

    def sign() -> bool:
        tier.ecr.ensure_repository(where.repository, immutable=True, key=None)
        if said := to_sign(decision, execution_statements(ref, evidence, APPROVAL), sent=sent):
            evidence.attach(where, APPROVAL, said.predicate(), said.decided)
        return is_recorded(number)

    if await in_thread(sign):  # a run signed and emitted it, but was killed before it removed the form's answer
        return
    emit(
        "image.decided",
        ref,
        None,
        number,
        environment=decision.environment,
        decision=decision.decision,
        by=decision.by,
        reason=decision.reason,
    )


@task(name="find missed promotions", task_run_name="find missed promotions", **RETRYING)
async def missed(tier: Tier, workbench: Workbench, *, shallow: bool = False) -> tuple[Move, ...]:
    """Return the moves that no event announced to this tier, for the newest image of each application."""
    if tier.tier == "curation":
        return await in_thread(missed_curations, tier.ecr, tier.evidence(workbench), shallow=shallow)
    view = _view(tier, workbench)
    return reportable_moves([await _as_seen(move, view) for move in await in_thread(missed_deployments, view)])


async def promoting(digest: Digest) -> list[FlowRun]:
    """Return the runs that promote a digest: those that wait, run, or ask a person."""
    async with get_client() as client:
        found = await fetch_all(
            client.read_flow_runs,
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=list(ON_THE_WAY)))),
        )
    return [run for run in found if str(run.parameters.get("image", "")).endswith(digest) and _goes_on(run)]


def _goes_on(run: FlowRun) -> bool:
    """Return whether a run will still act.

    A run whose machine died stays Running for ever, and a run may be scheduled for years ahead.
    """
    if run.state_type is StateType.PAUSED:
        return run.state_name != ABANDONED
    since = run.state.timestamp if run.state else run.created
    due = run.expected_start_time or since
    return since is not None and now() - since < STALE and due is not None and due - now() < STALE


async def on_the_way(move: Move) -> bool:
    """Return whether another run makes the same move; one that asks a person counts only if this move asks too."""
    runs = [run for run in await promoting(move.image.digest) if move.asks or run.state_type is not StateType.PAUSED]
    return any(str(run.id) != flow_run.id and _same(run.parameters, parameters_of(move)) for run in runs)


async def start(move: Move) -> str:
    """Start a promotion as its event would have done, and return the name of the run.

    A move is started at most once an hour, and once more if it no longer asks a person.
    """
    run = await arun_deployment(
        TO_CURATION if move.image.repository.startswith(OFFERED) else TO_EXECUTION,
        parameters=parameters_of(move),
        timeout=0,
        as_subflow=False,
        tags=["by-event"],  # nobody waits for this run, so its outcome is notified
        idempotency_key=f"{move.image} {move.to} {move.asks} {now():%Y-%m-%d %H}",
    )
    return str(run.name)


def parameters_of(move: Move) -> dict[str, Any]:
    """Return the parameters of a `promote` run that makes a move."""
    return {"image": str(move.image), "after": move.after}


def _same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(found.get(key) == value for key, value in wanted.items())


def _view(tier: Tier, workbench: Workbench, only: str | None = None) -> View:
    """Return execution's view; what should run, of one application or of all, is read only once."""
    evidence = tier.evidence(workbench)

    @cache
    def running() -> dict[tuple[str, str], ImageRef]:
        places = [each.name for each in workbench.environments()]
        return {
            (each.application, each.environment): ImageRef(
                repository=curated_repository(each.application), digest=each.digest
            )
            for each in read_expected(places, tier.ecr, tier.http, evidence, only)
        }

    return View(
        tier.ecr,
        evidence,
        workbench.environment,
        lambda application, environment: running().get((application, environment)),
    )
