"""promote: one image across its next boundary, because something happened. What happened twice changes nothing."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

from prefect import flow, get_run_logger
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from pydantic import Field

from blocks import Tier, Workbench
from blocks.workbench import now
from flows.curate import curate
from flows.ends import ended, refused
from flows.execute import execute
from flows.journal import log
from flows.names import by_image
from supply_chain.evidence.approval import Approval, Words
from supply_chain.execution.deploy import Deployment
from supply_chain.image import CuratedImage
from supply_chain.pages import escaped
from supply_chain.policy.outcome import Refused
from supply_chain.promotion.freeze import Freeze
from supply_chain.promotion.moves import Move
from supply_chain.shown import plain
from supply_chain.tier import CURATED, OFFERED
from tasks.find import find
from tasks.freeze import frozen
from tasks.promote import due_at_curation, due_at_execution, on_the_way, sign_decision
from tasks.turns import turn, turn_name

PATIENCE = 14 * 24 * 3600
"""Seconds that a run waits for a person; then it fails, and the reconcile asks anew."""

CHAIN = 2 * 3600
"""Seconds that a promotion waits for a chain of the same application, which ends what it has begun itself."""


class Decision(RunInput):
    """The form that a suspended promotion shows."""

    approve: bool = Field(title="Approve", description="Yes: it is deployed there. No: it is not, and this is signed.")
    who: Words = Field(title="Who", description="Your name. It is recorded as you write it; nothing here proves it.")
    why: Words = Field(title="Why", description="One sentence. It stands in the signed statement.")


@flow(name="promote", flow_run_name=by_image)
async def promote(image: str, after: str | None = None) -> CuratedImage | Deployment | Refused | Move | Freeze:
    """Take one image across its next boundary: an offered one to curation, a curated one to its next environment.

    Where there is nothing to do, it ends as Unneeded and says why: also after an event that came twice or late.
    During a freeze it ends as Frozen; when that is over, the next reconcile starts it again.

    Args:
        image: dev/hello@sha256:… as it was pushed, or curated/hello@sha256:… as it was vended.
        after: The environment in which a curated image soaked; empty for the first that it declares.
    """
    if (freeze := await frozen()) and not _answered():
        return held(freeze)
    workbench: Workbench = await Workbench.aload("workbench")
    if image.startswith(OFFERED):
        return await _to_curation(image, await Tier.aload("curation"), workbench)
    return await _to_environment(image, after, await Tier.aload("execution"), workbench)


async def _to_curation(image: str, tier: Tier, workbench: Workbench) -> CuratedImage | Refused | Move | Freeze:
    ref = await find(image, OFFERED, tier)
    async with turn(turn_name("promote", ref.application), CHAIN):
        if freeze := await frozen():  # since it waits
            return held(freeze)
        async with turn(turn_name("curate", ref.application)):
            move = await due_at_curation(ref, tier, workbench)  # whoever had the turn may have decided
        if not move.to:
            return unneeded(move)
        result = await curate(image=str(ref))
    return refused(result) if isinstance(result, Refused) else result


async def _to_environment(
    image: str, after: str | None, tier: Tier, workbench: Workbench
) -> Deployment | Refused | Move | Freeze:
    ref = await find(image, CURATED, tier)
    async with turn(turn_name("promote", ref.application), CHAIN):
        if (freeze := await frozen()) and not _answered():
            return held(freeze)
        # what was admitted just now is being signed; what soaked was signed long before
        async with turn(turn_name("curate", ref.application)) if after is None else nullcontext():
            move = await due_at_execution(ref, after, tier, workbench)
        if not move.to:
            return unneeded(move)
        answered = _answered() and workbench.environment(move.to).asks  # be it decided by others meanwhile
        if deployment.id and (move.asks or answered):  # a run that nobody can resume asks nobody: the gate refuses it
            if not _answered() and await on_the_way(move):
                return unneeded(move.model_copy(update={"why": "another run asks for the approval already"}))
            await sign_decision(ref, await _asked(move), tier, workbench)
        if freeze := await frozen():
            return held(freeze)
        result = await execute(image=str(ref), environment=move.to)
    return refused(result) if isinstance(result, Refused) else result


def _answered() -> bool:
    """Whether the run goes on after a person's answer, which is signed before anything else is looked at."""
    return (flow_run.run_count or 0) > 1


async def _asked(move: Move) -> Approval:
    """A person's decision: the run ends here, and begins again when the form is sent."""
    about = (
        f"**{escaped(move.image.application)}** `{move.image.digest}` has soaked in {escaped(move.after or 'none')}. "
        f"May it go to **{escaped(move.to)}**?"
    )
    form = Decision.with_initial_data(description=about)
    key = f"approval-{move.to}"  # what was said of another environment is no answer
    said = await asuspend_flow_run(wait_for_input=form, timeout=PATIENCE, key=key)
    return Approval(
        environment=move.to,
        digest=move.image.digest,
        decision="approved" if said.approve else "denied",
        who=said.who,
        why=said.why,
        decided=now(),
    )


def held(freeze: Freeze) -> Freeze:
    """What a run returns that a freeze holds."""
    get_run_logger().info("%s", freeze)
    return ended("Frozen", freeze, freeze)


def unneeded(move: Move) -> Move:
    """What a promotion returns that had nothing to do: the move, which says why."""
    why = plain(f"{move.image.repository}@{move.image.short}: {move.why}")
    get_run_logger().info("%s", why)
    return ended("Unneeded", why, move)


@flow(name="approve", flow_run_name=by_image)
async def approve(image: str, environment: str, who: Words, why: Words, deny: bool = False) -> Approval:
    """Sign a person's decision about a curated image in an environment, without a promotion that asks for it.

    Args:
        image: The image that curation signed, as curated/hello@sha256:… or by its digest alone.
        environment: The environment that it is about: the name of a document in deployments/environments.
        who: Your name. It is recorded as you write it; nothing here proves it.
        why: One sentence. It stands in the signed statement.
        deny: Say no: it is not deployed there, also where somebody said yes before.
    """
    tier, workbench = await asyncio.gather(Tier.aload("execution"), Workbench.aload("workbench"))
    place = workbench.environment(environment)
    ref = await find(image, CURATED, tier)
    said = Approval(
        environment=place.name,
        digest=ref.digest,
        decision="denied" if deny else "approved",
        who=who,
        why=why,
        decided=now(),
    )
    await sign_decision(ref, said, tier, workbench)
    if said.approved and not place.asks:
        log.info("%s", plain(f"note: {place.name} asks for no approval: a yes counts there against an earlier no"))
    return said
