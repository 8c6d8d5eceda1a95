"""rescan: what is known by now of curated images, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefect import task

from blocks import Inventory, Tier
from supply_chain.fleet.exposure import Gone, Judged, Unjudged
from supply_chain.fleet.known import KnownImage
from supply_chain.fleet.reconcile import everything
from supply_chain.fleet.rescan import Bench
from supply_chain.fleet.rescan import rescan as rescan_images
from tasks.events import emit
from tasks.running import RETRYING, in_thread


@task(name="images", task_run_name="images", **RETRYING)
async def curated_images(tier: Tier, inventory: Inventory) -> tuple[KnownImage, ...]:
    """Every image that the registry lists in the curated repositories, with what the inventory knows of it.

    One that the inventory does not know yet, as no event told of it, is among them all the same.
    """
    return await in_thread(lambda: tuple(everything(tier.ecr, inventory.open())))


@task(name="rescan", task_run_name="rescan {number}", tags=["scanner"], **RETRYING)
async def rescan(
    number: int, images: Sequence[KnownImage], bench: Bench, only: tuple[str, ...], fixed: Gone
) -> tuple[Judged | Unjudged, ...]:
    """A chunk of images: matched, signed and judged anew where something changed; each changed verdict an event."""

    def told(seen: Judged | Unjudged | None) -> None:
        bench.told(seen)
        if isinstance(seen, Judged) and seen.change is not None:
            _emit(seen)

    return await in_thread(rescan_images, images, replace(bench, told=told), only, fixed)


def _emit(seen: Judged) -> None:
    assert seen.change is not None
    emit(
        "image.verdict-changed",
        seen.ref,
        None,
        **{"from": _said(seen.change.before), "to": _said(seen.change.after)},
        reasons=[reason.model_dump() for reason in seen.change.reasons][:50],
        exploited=sorted({finding.id for finding in seen.exploited})[:50],
        running=list(seen.running),
        owner=seen.owner,
    )


def _said(passes: bool | None) -> str:
    return {None: "none", True: "passed", False: "refused"}[passes]
