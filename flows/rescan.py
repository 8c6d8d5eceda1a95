"""rescan: what is known by now of everything that curation admitted, against one database from start to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

from prefect import flow

from blocks import Inventory, Tier, Workbench
from blocks.workbench import now
from supply_chain.errors import RescanIncomplete
from supply_chain.fleet.exposure import Gone, Rescanned, Unjudged, gone
from supply_chain.fleet.known import KnownImage
from supply_chain.fleet.rescan import Bench, as_signed, chunks, is_base
from supply_chain.fleet.tally import Tally
from supply_chain.image import StorageStatus
from supply_chain.shown import counted
from tasks.rescan import all_told, curated_images, publish, set_up, telling, told_last
from tasks.rescan import rescan as rescan_chunk
from tasks.running import in_thread, whole
from tasks.turns import turn, turn_name

AGAIN = (10.0, 60.0)
"""Seconds after which those are tried again that a registry or AWS gave no answer about."""
NIGHT = 12 * 3600
"""Seconds that a rescan waits for the one before."""


@flow(name="rescan", flow_run_name="rescan")
async def rescan(packages: list[str] | None = None) -> Rescanned:
    """Match every curated image's SBOM with the database of this moment; sign and judge anew what changed.

    Args:
        packages: Only images that carry one of these: openssl, openssl@3.0.1 or a package URL. Empty: all images.
    """
    tier, workbench, inventory = await asyncio.gather(
        Tier.aload("curation"), Workbench.aload("workbench"), Inventory.aload("inventory")
    )
    only = tuple(packages or ())
    async with turn(turn_name("rescan"), NIGHT), _bench(tier, workbench) as bench:
        images = await curated_images(tier, inventory)
        archived = sum(map(_archived, images))
        tally = _tally(len(images) - archived, bench)
        try:
            before = await told_last(tally.begun)
            await _rescan(images, replace(bench, told_last=before), only, tally)
        finally:
            rescanned = tally.rescanned(archived)
            await publish(rescanned, workbench)
        if not only:
            if not any(each.retryable for each in rescanned.unjudged):  # nobody knows whether there is anything to tell
                await all_told(now())
            await in_thread(workbench.forget_stale, rescanned.database)
    if rescanned.unjudged:
        raise _incomplete(rescanned.unjudged)
    return rescanned


def _tally(total: int, bench: Bench) -> Tally:
    version, database = bench.scanner.current()
    return Tally(total, f"grype {version}", database, now())


@asynccontextmanager
async def _bench(tier: Tier, workbench: Workbench) -> AsyncIterator[Bench]:
    """What the run works with, and the database pinned for as long as it lasts."""
    with ExitStack() as stack:
        scanner = await in_thread(stack.enter_context, workbench.pinned_grype())
        yield await set_up(tier, workbench, whole(scanner))


async def _rescan(images: Sequence[KnownImage], bench: Bench, only: tuple[str, ...], tally: Tally) -> None:
    """Bases first: what they are rid of is what images that are built on them could be rid of."""
    bench = replace(bench, told=tally.add)
    newest = sorted(images, key=lambda each: each.stored.pushed_at, reverse=True)
    there = [each for each in newest if not _archived(each)]
    async with telling(tally):
        await _all([each for each in there if is_base(each)], bench, only, {}, tally)
        fixed = await in_thread(_fixed, [each for each in newest if is_base(each)], bench, tally)
        await _all([each for each in there if not is_base(each)], bench, only, fixed, tally)


def _archived(image: KnownImage) -> bool:
    return image.stored.status is StorageStatus.ARCHIVED


def _fixed(bases: Sequence[KnownImage], bench: Bench, tally: Tally) -> Gone:
    """What newer bases are rid of. One that is archived, as it was blocked, is still what images were built on."""
    judged = {each.ref: each for each in tally.judged}
    seen = (as_signed(each, bench) if _archived(each) else judged.get(each.ref) for each in bases)
    return gone([each for each in seen if each])


async def _all(images: Sequence[KnownImage], bench: Bench, only: tuple[str, ...], fixed: Gone, tally: Tally) -> None:
    """All images, a chunk at a time; what got no answer is asked once more, and again after a while."""
    for pause in (0.0, *AGAIN):
        left = tally.left(images) if pause else images
        if not left:
            break
        await asyncio.sleep(pause)
        for number, chunk in enumerate(chunks(left), 1):
            await rescan_chunk(number, whole(chunk), whole(bench), only, whole(fixed))


def _incomplete(unjudged: Sequence[Unjudged]) -> RescanIncomplete:
    named = "\n".join(f"  {each.ref}: {each.message}" for each in unjudged)
    return RescanIncomplete(
        f"{counted(len(unjudged), 'image')} could not be judged; all others were:\n{named}\n"
        "Do what each one says, and start the rescan again: it goes on with what is missing."
    )
