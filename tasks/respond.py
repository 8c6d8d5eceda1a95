"""Tasks of a response: find what runs from an image, its owners, and the promotions in progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
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
from orchestration.steps import continue_after_error, in_thread, step
from supply_chain.evidence.image_status import image_status, read_image_status
from supply_chain.evidence.provenance import last_provenance
from supply_chain.evidence.statement import PROVENANCE
from supply_chain.execution.deployment import Expected, deployed_image
from supply_chain.execution.environment import Environment
from supply_chain.execution.observation import Observation
from supply_chain.execution.records import read_expected
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName, is_base_repository
from supply_chain.policy.outcome import Refused
from supply_chain.promotion.response import CANCELS, Response, find_deployments, make_response
from supply_chain.text import join_lines

ENDED, POLL = 90.0, 0.5
"""Seconds to wait for cancelled runs, and between two checks."""
NOT_BLOCKED = "no signed statement confirms it: nothing was cancelled, and no gate refuses the image for it"


@dataclass
class Stopped:
    """Promotions in progress of an image, and the reason to stop them; what is unknown."""

    runs: list[str]
    facts: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


@dataclass
class JudgedAgain:
    """A sentence for each published verdict that changed; what is unknown."""

    facts: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


@step("cancel promotions")
async def cancel_promotions_step(ref: ImageRef, happened: str, ports: ExecutionPorts) -> Stopped:
    """Return the runs that promote an image; cancel them if the event is one of `CANCELS`.

    They are cancelled only if a statement signed by the lifecycle confirms the block, because anybody who can emit
    events could claim one.
    """
    runs = await list_promotions(ref.digest)
    stopped = Stopped(runs=[str(run.name) for run in runs])
    if happened in CANCELS:
        with _going_on("whether it is blocked (nothing was cancelled)", stopped.unread):
            block = image_status((await in_thread(read_image_status, ref, ports.evidence)).evidence).block
            stopped.facts.append(f"blocked {block}" if block else NOT_BLOCKED)
            if block:
                stopped.unread += await _cancel(runs, f"{happened}: {ref}")
    return stopped


@step("judge again")
async def judge_again_step(ref: ImageRef, ports: ExecutionPorts) -> JudgedAgain:
    """Judge an image for each environment in which a verdict about it is published, and publish a changed verdict.

    So an enforcer learns of a block or of a new finding. All environments are judged at once: what cannot be judged in
    one, or takes long, does not prevent or delay the others. A block also takes effect in environments that are not
    active or were removed.
    """
    judging = (_judge_again(ref, environment, ports) for environment in ports.workbench.environments())
    outcome, again = JudgedAgain(), list[BaseException]()
    for each in await asyncio.gather(*judging, _refuse_removed(ref, ports), return_exceptions=True):
        if isinstance(each, BaseException):
            again.append(each)
        else:
            outcome.facts += each.facts
            outcome.unread += each.unread
    if again:
        raise again[0]
    return outcome


async def _judge_again(ref: ImageRef, environment: Environment, ports: ExecutionPorts) -> JudgedAgain:
    outcome = JudgedAgain()
    with _going_on(f"whether the published verdict for {environment.name} is right", outcome.unread):
        verdict = await in_thread(ports.judge_published, ref, environment)
        if verdict is not None:
            result = "FAILED" if isinstance(verdict, Refused) else "PASSED"
            outcome.facts.append(f"the published verdict for {environment.name} is {result} now")
    return outcome


async def _refuse_removed(ref: ImageRef, ports: ExecutionPorts) -> JudgedAgain:
    outcome = JudgedAgain()
    with _going_on("whether verdicts for removed environments are right", outcome.unread):
        removed = await in_thread(ports.refuse_removed, ref)
        outcome.facts += (f"the published verdict for {name}, which was removed, is FAILED now" for name in removed)
    return outcome


@step("find deployments")
async def find_deployments_step(
    ref: ImageRef,
    happened: str,
    facts: Sequence[str],
    stopped: Stopped,
    judged: Sequence[JudgedAgain],
    ports: ExecutionPorts,
) -> Response:
    """Return what runs from the image by the signed records, and how it is now; name what could not be read."""
    unread, evidence = [*stopped.unread, *(text for each in judged for text in each.unread)], ports.evidence
    expected: Sequence[Expected] = ()
    observed: list[Observation] = []
    owners: dict[ImageRef, str] = {}
    whose = None if is_base_repository(ref.repository) else ref.application  # any application's proxy can run from it
    with _going_on("what runs", unread):
        places = ports.workbench.environments()
        names, registry = [each.name for each in places], (ports.repositories, ports.registry)
        expected = find_deployments(ref, await in_thread(read_expected, names, *registry, evidence, whose))
        for place in places:
            if deployments := [each for each in expected if each.environment == place.name]:
                with _going_on(f"the state in {place.name}", unread):
                    target = await ports.load_target(place)
                    observed += await in_thread(target.observe, deployments)
    for each in dict.fromkeys((ref, *map(deployed_image, expected))):
        with _going_on(f"who owns {each.application}", unread):
            built = last_provenance(await in_thread(evidence.verified, each, TierName.DEVELOPMENT, PROVENANCE))
            owners |= {each: built.manifest.owner} if built else {}
    facts = [*(stopped.facts if happened in CANCELS else facts), *(text for each in judged for text in each.facts)]
    return make_response(happened, ref, owners, expected, observed, on_the_way=stopped.runs, facts=facts, unread=unread)


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
