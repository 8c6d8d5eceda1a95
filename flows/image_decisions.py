"""Flows `block`, `unblock`, `hold` and `release`: sign a person's decision about an image, and apply it at once."""

from __future__ import annotations

import asyncio

from prefect import flow

from blocks import Tier, Workbench
from orchestration.run_names import by_image
from orchestration.run_states import complete_as
from supply_chain.evidence.approval import Words
from supply_chain.evidence.image_status import Act
from supply_chain.lifecycle.decisions import DecisionResult
from supply_chain.lifecycle.enforce import Enforced
from tasks.find import find_stored
from tasks.lifecycle import enforce as enforce_blocks
from tasks.lifecycle import rule


@flow(name="block", flow_run_name=by_image)
async def block(image: str, why: Words, by: Words) -> DecisionResult:
    """Refuse an image at every gate and to whoever pulls it, from now on; what runs from it is listed.

    Args:
        image: The image, as curated/hello@sha256:… or by its digest alone.
        why: Why. It is signed, and every refusal says it.
        by: Who decides it. It is signed.
    """
    return await _rule(image, Act.BLOCK, why, by)


@flow(name="unblock", flow_run_name=by_image)
async def unblock(image: str, why: Words, by: Words) -> DecisionResult:
    """Lift a block: the gates judge the image by its evidence again, and it can be pulled within minutes.

    Args:
        image: The image, as curated/hello@sha256:… or by its digest alone.
        why: Why. It is signed.
        by: Who decides it. It is signed.
    """
    return await _rule(image, Act.UNBLOCK, why, by)


@flow(name="hold", flow_run_name=by_image)
async def hold(image: str, why: Words, by: Words) -> DecisionResult:
    """Keep an image from the lifecycle: nothing of it is removed or archived.

    Args:
        image: The image, as curated/hello@sha256:… or by its digest alone.
        why: Why. It is signed.
        by: Who decides it. It is signed.
    """
    return await _rule(image, Act.HOLD, why, by)


@flow(name="release", flow_run_name=by_image)
async def release(image: str, why: Words, by: Words) -> DecisionResult:
    """End a hold: the lifecycle's rules decide about the image again.

    Args:
        image: The image, as curated/hello@sha256:… or by its digest alone.
        why: Why. It is signed.
        by: Who decides it. It is signed.
    """
    return await _rule(image, Act.RELEASE, why, by)


@flow(name="enforce", flow_run_name="enforce blocks")
async def enforce() -> Enforced:
    """Archive every blocked image that a push brought back, under whatever name somebody pushed it."""
    tier, workbench = await asyncio.gather(Tier.aload("lifecycle"), Workbench.aload("workbench"))
    found = await enforce_blocks(tier, workbench)
    if found.failed:
        return complete_as("Unenforced", str(found), found)
    return found


async def _rule(image: str, act: Act, why: Words, by: Words) -> DecisionResult:
    tier, workbench = await asyncio.gather(Tier.aload("lifecycle"), Workbench.aload("workbench"))
    return await rule(await find_stored(image, tier), act, by, why, tier, workbench)
