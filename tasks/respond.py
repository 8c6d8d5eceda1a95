"""Tasks of a response: find what runs from an image, its owners, and the promotions in progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from blocks.execution_ports import ExecutionPorts
from orchestration.promotions import list_promotions
from orchestration.steps import continue_after_error, run_in_thread, step
from supply_chain.evidence.image_status import compute_image_status, read_image_status
from supply_chain.evidence.provenance import find_last_provenance
from supply_chain.evidence.statement import PROVENANCE
from supply_chain.execution.deployment import Expected, read_deployed_image
from supply_chain.execution.environment import Environment
from supply_chain.execution.observation import Observation
from supply_chain.execution.records import read_expected
from supply_chain.execution.response import CANCELS, Response, find_deployments, make_response
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName, is_base_repository
from supply_chain.policy.outcome import Refused
from supply_chain.text import join_lines

ENDED, POLL = 90.0, 0.5
"""Seconds to wait for cancelled runs, and between two checks."""
NOT_BLOCKED = "no signed statement confirms it: nothing was cancelled, and no gate refuses the image for it"


@dataclass
class PromotionsInProgress:
    """Promotions in progress of an image, and the reason to stop them; what is unknown."""

    runs: list[str]
    facts: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


@dataclass
class RejudgeResult:
    """A sentence for each published verdict that changed; what is unknown."""

    facts: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def add(self, other: RejudgeResult) -> None:
        """Add what another judgement found."""
        self.facts += other.facts
        self.unread += other.unread


@step("cancel promotions")
async def cancel_promotions_step(ref: ImageRef, event: str, ports: ExecutionPorts) -> PromotionsInProgress:
    """Return the runs that promote an image; cancel them if the event is one of `CANCELS`.

    They are cancelled only if a statement signed by the lifecycle confirms the block, because anybody who can emit
    events could claim one.
    """
    runs = await list_promotions(ref.digest)
    promotions = PromotionsInProgress(runs=[str(run.name) for run in runs])
    if event in CANCELS:
        with _going_on("whether it is blocked (nothing was cancelled)", promotions.unread):
            block = compute_image_status((await run_in_thread(read_image_status, ref, ports.evidence)).evidence).block
            promotions.facts.append(f"blocked {block}" if block else NOT_BLOCKED)
            if block:
                promotions.unread += await _cancel(runs, f"{event}: {ref}")
    return promotions


@step("judge again", run_name="judge again for {environment.name}")
async def judge_again_step(ref: ImageRef, environment: Environment, ports: ExecutionPorts) -> RejudgeResult:
    """Judge an image again if a verdict about it is published for an environment, and publish a changed verdict.

    So an enforcer learns of a block or of a new finding, also where the environment is not active.
    """
    outcome = RejudgeResult()
    with _going_on(f"whether the published verdict for {environment.name} is right", outcome.unread):
        verdict = await run_in_thread(ports.judge_published, ref, environment)
        if verdict is not None:
            result = "FAILED" if isinstance(verdict, Refused) else "PASSED"
            outcome.facts.append(f"the published verdict for {environment.name} is {result} now")
    return outcome


@step("list undescribed environments")
async def list_undescribed_step(ref: ImageRef, ports: ExecutionPorts) -> tuple[Mapping[str, str], RejudgeResult]:
    """Return the environments with published verdicts that no document describes now, and why; and what is unknown."""
    outcome = RejudgeResult()
    with _going_on("whether verdicts for removed environments are right", outcome.unread):
        return await run_in_thread(ports.list_undescribed, ref), outcome
    return {}, outcome


@step("refuse a blocked image", run_name="refuse a blocked image for {environment}")
async def refuse_blocked_step(ref: ImageRef, environment: str, why: str, ports: ExecutionPorts) -> RejudgeResult:
    """Publish the refusal of a blocked image for an environment that no document describes, for the reason `why`."""
    outcome = RejudgeResult()
    with _going_on(f"whether the published verdict for {environment} is right", outcome.unread):
        if await run_in_thread(ports.refuse_blocked, ref, environment, why) is not None:
            outcome.facts.append(f"the published verdict for {environment} is FAILED now ({why})")
    return outcome


@step("find deployments")
async def find_deployments_step(
    ref: ImageRef,
    event: str,
    facts: Sequence[str],
    promotions: PromotionsInProgress,
    judged: RejudgeResult,
    ports: ExecutionPorts,
) -> Response:
    """Return what runs from the image by the signed records, and how it is now; name what could not be read."""
    unread, evidence = [*promotions.unread, *judged.unread], ports.evidence
    expected: Sequence[Expected] = ()
    observed: list[Observation] = []
    owners: dict[ImageRef, str] = {}
    whose = None if is_base_repository(ref.repository) else ref.application  # any application's proxy can run from it
    with _going_on("what runs", unread):
        documents, registry = ports.workbench.environment_documents(), (ports.repositories, ports.registry)
        expected = find_deployments(
            ref, await run_in_thread(read_expected, documents.names, *registry, evidence, whose)
        )
        for environment in documents.readable:
            if deployments := [each for each in expected if each.environment == environment.name]:
                with _going_on(f"the state in {environment.name}", unread):
                    target = await ports.load_target(environment)
                    observed += await run_in_thread(target.observe, deployments)
    for each in dict.fromkeys((ref, *map(read_deployed_image, expected))):
        with _going_on(f"who owns {each.application}", unread):
            built = find_last_provenance(
                await run_in_thread(evidence.read_verified, each, TierName.DEVELOPMENT, PROVENANCE)
            )
            owners |= {each: built.declaration.owner} if built else {}
    facts = [*(promotions.facts if event in CANCELS else facts), *judged.facts]
    return make_response(event, ref, owners, expected, observed, on_the_way=promotions.runs, facts=facts, unread=unread)


def _going_on(what: str, unread: list[str]) -> AbstractContextManager[None]:
    """Record an error in `unread` and continue after the block, as `continue_after_error` does."""
    return continue_after_error(lambda error: unread.append(f"{what} is unknown: {join_lines(error)}"))


async def _cancel(runs: Sequence[FlowRun], why: str) -> list[str]:
    """Cancel the runs; one that waits for its start or for a person is ended at once.

    What a run is deploying may not be signed before it has ended. Return a message for each run that has not ended
    after `ENDED` seconds.
    """
    async with get_client() as client:
        for run in runs:
            waits = run.state_type in (StateType.SCHEDULED, StateType.PAUSED)
            with suppress(ObjectNotFound):  # deleted meanwhile
                await client.set_flow_run_state(run.id, (Cancelled if waits else Cancelling)(message=why))
        matching = FlowRunFilter(
            id=FlowRunFilterId(any_=[run.id for run in runs]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING])),
        )
        until = time.monotonic() + ENDED
        while going_on := await client.read_flow_runs(flow_run_filter=matching) if runs else ():
            if time.monotonic() > until:
                break
            await asyncio.sleep(POLL)
    return [f"{run.name} has not ended yet: what it deploys is not listed here" for run in going_on]
