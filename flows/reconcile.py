"""Flow `reconcile`: start the promotions that no event has started."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Literal

from prefect import flow
from prefect.artifacts import acreate_table_artifact

from blocks import Tier, Workbench
from orchestration.locks import lock_name, run_lock
from orchestration.promotion_freeze import active_freeze
from orchestration.run_states import complete_as, complete_frozen
from supply_chain.promotion.freeze import PromotionFreeze
from supply_chain.promotion.moves import Move
from supply_chain.text import plain_text
from tasks.promote import missed, on_the_way, start

LONGEST_LOOK = 3600
"""Seconds for which a shallow pass waits for the pass before it."""


def looks(tier: str, *, shallow: bool) -> tuple[bool, ...]:
    """Return the passes to make, each as whether it is shallow. For execution, there is only one kind."""
    return (False,) if tier == "execution" else (True,) if shallow else (True, False)


@flow(name="reconcile", flow_run_name="reconcile {tier}")
async def reconcile(
    tier: Literal["curation", "execution"], shallow: bool = False
) -> tuple[Move, ...] | PromotionFreeze:
    """Look at what should have gone on to a tier and did not, and start it: the newest image of each application.

    To curation: images in dev/* that were offered and not judged. To execution: curated ones that were deployed
    nowhere, and soaked ones that did not go to their next environment. What a gate or a person refused stays where
    it is. An application of which a signed statement cannot be read ends the run as Unreadable, after all others.

    Args:
        tier: Whose images they would become; it is looked as this tier, and as no other.
        shallow: Look at the last images of each application alone, as when many pushes came at once; after the look of
            another such run, so that a run that waits stands for all that come meanwhile.
    """
    async with run_lock(lock_name("reconcile", tier), LONGEST_LOOK) if shallow else nullcontext():
        return await _reconcile(tier, shallow=shallow)


async def _reconcile(tier: str, *, shallow: bool) -> tuple[Move, ...] | PromotionFreeze:
    if freeze := await active_freeze():
        return complete_frozen(freeze)
    looking, workbench = await asyncio.gather(Tier.aload(tier), Workbench.aload("workbench"))
    rows, found, seen = [], [], set()
    for only_shallow in looks(tier, shallow=shallow):  # start first what is found quickly
        for move in await missed(looking, workbench, shallow=only_shallow):
            if (key := (str(move.image), move.to, move.after)) in seen:
                continue
            seen.add(key)
            found.append(move)
            run = move.why if move.unreadable else "is on its way" if await on_the_way(move) else await start(move)
            image = plain_text(f"{move.image.repository}@{move.image.short}")
            rows.append(
                {
                    "image": image,
                    "to": plain_text(move.to),
                    "after": plain_text(move.after or ""),
                    "run": plain_text(run),
                }
            )
    await acreate_table_artifact(key=f"reconciled-{tier}", table=rows, description="What no event had announced")
    if unreadable := [str(move.image) for move in found if move.unreadable]:
        return complete_as("Unreadable", ", ".join(unreadable), tuple(found))
    return tuple(found)
