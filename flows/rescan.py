"""rescan: what is known by now of everything that curation admitted, against one database from start to end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from prefect import flow, get_run_logger
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.utilities.annotations import quote

from blocks import Inventory, Tier, Workbench
from blocks.curation import rescan_bench
from blocks.workbench import now
from flows.turns import turn
from supply_chain import pages
from supply_chain.errors import RescanIncomplete
from supply_chain.fleet.exposure import Gone, Judged, Rescanned, Unjudged, by_exposure, gone
from supply_chain.fleet.known import KnownImage
from supply_chain.fleet.rescan import Bench, chunks, is_base
from supply_chain.image import StorageStatus
from supply_chain.shown import counted
from tasks.rescan import curated_images
from tasks.rescan import rescan as rescan_chunk
from tasks.running import in_thread
from tasks.tell import tell
from tasks.turns import turn_name

T = TypeVar("T")

EVERY = 5.0
"""Seconds between two tellings of how far it is."""
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
        rescanned = await _rescan(images, bench, only)
        await _publish(rescanned, workbench)
        if not only:
            await in_thread(workbench.kept_results.forget_others, rescanned.database.digest)
    if rescanned.unjudged:
        raise _incomplete(rescanned.unjudged)
    return rescanned


@asynccontextmanager
async def _bench(tier: Tier, workbench: Workbench) -> AsyncIterator[Bench]:
    """What the run works with, and the database pinned for as long as it lasts."""
    with ExitStack() as stack:
        scanner = await in_thread(stack.enter_context, workbench.pinned_grype())
        yield await in_thread(rescan_bench, tier, workbench, scanner)


async def _rescan(images: Sequence[KnownImage], bench: Bench, only: tuple[str, ...]) -> Rescanned:
    """Bases first: what they are rid of is what images that are built on them could be rid of."""
    there = [each for each in images if each.stored.status is not StorageStatus.ARCHIVED]
    started, tally = now(), Tally(len(there))
    bench = replace(bench, told=tally.add)
    newest = sorted(there, key=lambda each: each.stored.pushed_at, reverse=True)
    async with _telling(tally):
        below = await _all([each for each in newest if is_base(each)], bench, only, {}, tally)
        fixed = gone([each for each in below if isinstance(each, Judged)])
        above = await _all([each for each in newest if not is_base(each)], bench, only, fixed, tally)
    version, database = bench.scanner.current()
    seen = [each.model_copy(update={"findings": ()}) for each in (*below, *above) if isinstance(each, Judged)]
    return Rescanned(
        database=database,
        scanner=f"grype {version}",
        started=started,
        seconds=tally.seconds,
        images=tally.done - tally.without,
        without=tally.without,
        archived=len(images) - len(there),
        signed=tally.signed,
        changed=sum(each.change is not None for each in seen),
        exploited=sum(bool(each.exploited) for each in seen),
        told=by_exposure(each for each in seen if each.tells),
        unjudged=tuple(each for each in (*below, *above) if isinstance(each, Unjudged)),
    )


async def _all(
    images: Sequence[KnownImage], bench: Bench, only: tuple[str, ...], fixed: Gone, tally: Tally
) -> list[Judged | Unjudged]:
    """All images, a chunk at a time; what got no answer is asked once more, and again after a while.

    Of what nothing is to be told, nothing is kept: the run needs no more memory for more images.
    """
    found: list[Judged | Unjudged] = []
    for pause in (0.0, *AGAIN):
        missing = {each.ref for each in found if isinstance(each, Unjudged) and each.retryable}
        left = [each for each in images if each.ref in missing] if pause else images
        if not left:
            break
        found = [each for each in found if each.ref not in missing]
        tally.again(len(missing))
        await asyncio.sleep(pause)
        for number, chunk in enumerate(chunks(left), 1):
            seen = await rescan_chunk(number, _whole(chunk), _whole(bench), only, _whole(fixed))
            found += [each for each in seen if isinstance(each, Unjudged) or each.tells or each.findings]
    return found


def _whole(value: T) -> T:
    """A task's argument into which Prefect does not look for results of other tasks."""
    return cast(T, quote(value))


@dataclass
class Tally:
    """How far a run is; chunks add to it from their threads."""

    total: int
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    without: int = 0
    signed: int = 0
    unjudged: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seen: Judged | Unjudged | None) -> None:
        with self._lock:
            self.done += 1
            self.without += seen is None
            self.unjudged += isinstance(seen, Unjudged)
            self.signed += isinstance(seen, Judged) and seen.signed

    def again(self, number: int) -> None:
        """So many that were done without an answer are done once more."""
        with self._lock:
            self.done -= number
            self.unjudged -= number

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def told(self) -> str:
        return pages.rescan_progress(self.done, self.total, self.seconds, self.unjudged)


@asynccontextmanager
async def _telling(tally: Tally) -> AsyncIterator[None]:
    """Tell how far the run is while the block runs: a bar, and count, rate and time left beside it."""
    bar = await acreate_progress_artifact(progress=0.0, key="rescan-progress", description=tally.told())

    async def tell() -> None:
        share = 100.0 * tally.done / tally.total if tally.total else 100.0
        await aupdate_progress_artifact(artifact_id=bar, progress=min(share, 100.0), description=tally.told())

    async def repeat() -> None:
        while True:
            await asyncio.sleep(EVERY)
            await tell()

    telling = asyncio.ensure_future(repeat())
    try:
        yield
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
    await tell()


async def _publish(rescanned: Rescanned, workbench: Workbench) -> None:
    """The tables that operators and owners read, and the message to whoever is told."""
    said = pages.rescan_summary(rescanned)
    get_run_logger().info("%s", said)
    await acreate_markdown_artifact(key="rescan-summary", markdown=pages.rescan_page(rescanned), description=said)
    await acreate_table_artifact(key="rescan", table=pages.rescan_rows(rescanned), description=said)
    await acreate_table_artifact(key="rescan-owners", table=pages.owner_rows(rescanned), description=said)
    message = pages.rescan_message(rescanned)
    if rescanned.told or rescanned.unjudged:
        await tell(f"Rescan: {said}", message, workbench)


def _incomplete(unjudged: Sequence[Unjudged]) -> RescanIncomplete:
    named = "\n".join(f"  {each.ref}: {each.message}" for each in unjudged)
    return RescanIncomplete(
        f"{counted(len(unjudged), 'image')} could not be judged; all others were:\n{named}\n"
        "Do what each one says, and start the rescan again: it goes on with what is missing."
    )
