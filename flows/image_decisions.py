"""Flows `block`, `unblock`, `hold`, `unhold` and `enforce`: sign and apply lifecycle decisions about images."""

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
async def block(image: str, reason: Words, by: Words) -> DecisionResult:
    """Block an image: every gate refuses it and nobody can pull it. The result lists what runs from it.

    Args:
        image: The image: curated/hello@sha256:… or only its digest.
        reason: The reason. It is signed, and every refusal quotes it.
        by: The name of the person who decides. It is signed.
    """
    return await _rule(image, Act.BLOCK, reason, by)


@flow(name="unblock", flow_run_name=by_image)
async def unblock(image: str, reason: Words, by: Words) -> DecisionResult:
    """Lift a block: the gates judge the image by its evidence again, and within minutes it can be pulled.

    Args:
        image: The image: curated/hello@sha256:… or only its digest.
        reason: The reason. It is signed.
        by: The name of the person who decides. It is signed.
    """
    return await _rule(image, Act.UNBLOCK, reason, by)


@flow(name="hold", flow_run_name=by_image)
async def hold(image: str, reason: Words, by: Words) -> DecisionResult:
    """Hold an image: the lifecycle removes and archives nothing of it.

    Args:
        image: The image: curated/hello@sha256:… or only its digest.
        reason: The reason. It is signed.
        by: The name of the person who decides. It is signed.
    """
    return await _rule(image, Act.HOLD, reason, by)


@flow(name="unhold", flow_run_name=by_image)
async def unhold(image: str, reason: Words, by: Words) -> DecisionResult:
    """End a hold: the lifecycle's rules apply to the image again.

    Args:
        image: The image: curated/hello@sha256:… or only its digest.
        reason: The reason. It is signed.
        by: The name of the person who decides. It is signed.
    """
    return await _rule(image, Act.UNHOLD, reason, by)


@flow(name="enforce", flow_run_name="enforce blocks")
async def enforce() -> Enforced:
    """Archive every blocked image that was pushed again, under any name."""
    tier, workbench = await asyncio.gather(Tier.aload("lifecycle"), Workbench.aload("workbench"))
    found = await enforce_blocks(tier, workbench)
    if found.failed:
        return complete_as("Unenforced", str(found), found)
    return found


async def _rule(image: str, act: Act, reason: Words, by: Words) -> DecisionResult:
    tier, workbench = await asyncio.gather(Tier.aload("lifecycle"), Workbench.aload("workbench"))
    return await rule(await find_stored(image, tier), act, by, reason, tier, workbench)
