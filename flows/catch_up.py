"""Flow `catch-up`: start the promotions that no event has started."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

from prefect import flow
from prefect.artifacts import acreate_table_artifact

from blocks.ports_by_tier import PORTS_BY_TIER
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.promotion_freeze import find_active_freeze
from orchestration.promotions import is_active, start_promotion
from orchestration.run_states import complete_as, complete_frozen
from supply_chain.promotion.freeze import PromotionFreeze
from supply_chain.promotion.planned_promotion import PlannedPromotion
from supply_chain.text import sanitize_text
from tasks.promote import find_missed_step

PREVIOUS_RUN_WAIT = 3600
"""Seconds for which a shallow pass waits for the pass before it."""


def _passes(tier: str, *, shallow: bool) -> tuple[bool, ...]:
    """Return the passes to make, each as whether it is shallow. For execution, there is only one kind."""
    return (False,) if tier == "execution" else (True,) if shallow else (True, False)


@flow(name="catch-up", flow_run_name="catch-up {tier}")
async def catch_up(
    tier: Literal["curation", "execution"], shallow: bool = False
) -> tuple[PlannedPromotion, ...] | PromotionFreeze:
    """Find promotions to a tier that no event started, and start them, for the newest image of each application.

    For curation, these are images in dev/* that were offered and not judged. For execution, these are curated images
    that are deployed nowhere, and soaked images that did not go to their next environment. An image that a gate or a
    person refused is not promoted. If a signed statement of an application cannot be read, or the environment of a
    promotion is invalid, the run ends as Unreadable, after it has handled all others.

    Args:
        tier: The tier that the images are promoted to. The run uses only its identity.
        shallow: Look only at the last images of each application, for example after many pushes at once. The run waits
            for another such run to end, so that one waiting run covers all later ones.
    """
    async with run_lock(lock_name(LockKind.CATCH_UP, tier), PREVIOUS_RUN_WAIT) if shallow else nullcontext():
        return await _catch_up(tier, shallow=shallow)


async def _catch_up(tier: str, *, shallow: bool) -> tuple[PlannedPromotion, ...] | PromotionFreeze:
    if freeze := await find_active_freeze():
        return complete_frozen(freeze)
    ports = await PORTS_BY_TIER[tier].aload()
    rows, promotions, visited = [], [], set()
    for only_shallow in _passes(tier, shallow=shallow):  # start first what is found quickly
        for promotion in await find_missed_step(ports, shallow=only_shallow):
            if (key := (str(promotion.image), promotion.to, promotion.after)) in visited:
                continue
            visited.add(key)
            promotions.append(promotion)
            if promotion.unreadable:
                run = promotion.reason
            else:
                run = "runs already" if await is_active(promotion) else await start_promotion(promotion)
            image = sanitize_text(f"{promotion.image.repository}@{promotion.image.short}")
            rows.append(
                {
                    "image": image,
                    "to": sanitize_text(promotion.to),
                    "after": sanitize_text(promotion.after or ""),
                    "run": sanitize_text(run),
                }
            )
    await acreate_table_artifact(
        key=f"missed-promotions-{tier}", table=rows, description="Promotions that no event started"
    )
    if unreadable := [str(promotion.image) for promotion in promotions if promotion.unreadable]:
        return complete_as("Unreadable", ", ".join(unreadable), tuple(promotions))
    return tuple(promotions)
