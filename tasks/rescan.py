"""Tasks of a rescan: match many curated images with the current vulnerability database."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime

from prefect import get_run_logger, task
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.events import emit_event
from prefect.variables import Variable
from pydantic import AwareDatetime, TypeAdapter, ValidationError

from blocks import Inventory, Tier, Workbench
from blocks.curation_ports import rescan_ports
from orchestration.events import emit, event_id, is_recorded
from orchestration.steps import RETRYING, in_thread
from supply_chain import reports
from supply_chain.adapters.tools.grype import Grype
from supply_chain.curation.rescan import News
from supply_chain.fleet.exposure import Fixes, RescanReport, RescanResult, Unjudged
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.reconcile import list_all_images
from supply_chain.fleet.rescan import RescanPorts
from supply_chain.fleet.rescan import rescan as rescan_images
from supply_chain.fleet.tally import Tally
from supply_chain.model.image import ImageRef
from tasks.notify import notify

TOLD = "rescan_told"
"""The variable with the time of the last rescan that reported on all images."""
SIGNED = "cscm.rescan.signed"
RESCAN = {"prefect.resource.id": "cscm.rescan", "prefect.resource.name": "rescan"}
EVERY = 5.0
"""Seconds between two updates of the progress bar."""
AT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


@task(name="list images", task_run_name="list images", **RETRYING)
async def curated_images(tier: Tier, inventory: Inventory) -> tuple[FleetImage, ...]:
    """Return every image that the registry lists in the curated repositories, with the inventory's facts about it.

    An image that the inventory does not know yet, because no event announced it, is included.
    """
    return await in_thread(lambda: tuple(list_all_images(tier.ecr, inventory.open())))


@task(name="set up", task_run_name="set up", persist_result=False, **RETRYING)
async def set_up(tier: Tier, workbench: Workbench, scanner: Grype) -> RescanPorts:
    """Return the dependencies of a rescan, including the bases and the blocks on them."""
    return await in_thread(rescan_ports, tier, workbench, scanner)


@task(name="rescan", task_run_name="rescan {number}", tags=["scanner"], **RETRYING)
async def rescan(
    number: int, images: Sequence[FleetImage], bench: RescanPorts, only: tuple[str, ...], fixed: Fixes
) -> None:
    """Rescan a chunk of images: match each, and sign a new report and verdict if something changed.

    Each changed verdict becomes an event. Results go to `bench`, one image at a time, and are not returned, because
    Prefect would store them once more.
    """

    def told(ref: ImageRef, seen: RescanResult | Unjudged | None) -> None:
        bench.on_result(ref, seen)
        if isinstance(seen, RescanResult) and seen.news is not None:
            _emit(seen, seen.news)

    await in_thread(lambda: deque(rescan_images(images, replace(bench, on_result=told), only, fixed), maxlen=0))


def _emit(seen: RescanResult, news: News) -> None:
    """Emit an event for the change, unless an earlier run that was interrupted has emitted it."""
    number = event_id("image.verdict-changed", news.since)
    if is_recorded(number):
        return
    emit(
        "image.verdict-changed",
        seen.ref,
        None,
        number,
        **{"from": _said(news.before), "to": _said(news.after)},
        reasons=[reason.model_dump() for reason in news.reasons][:50],
        exploited=sorted({finding.id for finding in seen.exploited})[:50],
        running=list(seen.running),
        owner=seen.owner,
    )


def _said(passes: bool | None) -> str:
    return {None: "none", True: "passed", False: "refused"}[passes]


@asynccontextmanager
async def telling(tally: Tally) -> AsyncIterator[None]:
    """Publish the progress of the run while the block runs: a bar with count, rate and remaining time."""

    def how_far() -> str:
        return reports.rescan_progress(tally.done, tally.total, tally.seconds, tally.unjudged)

    bar = await acreate_progress_artifact(progress=0.0, key="rescan-progress", description=how_far())

    async def update() -> None:
        await aupdate_progress_artifact(artifact_id=bar, progress=tally.percent, description=how_far())

    async def repeat() -> None:
        while True:
            await asyncio.sleep(EVERY)
            await update()

    repeating = asyncio.ensure_future(repeat())
    try:
        yield
    finally:
        repeating.cancel()
        with suppress(asyncio.CancelledError):
            await repeating
    await update()


async def last_full_report_time(begun: datetime) -> datetime:
    """Return the time of the last rescan that reported on all images.

    If there is none, or its variable is lost, return `begun`, the start of this rescan, and store it: this rescan may
    be killed after it signed something.
    """
    try:
        return AT.validate_python(await Variable.aget(TOLD))
    except ValidationError:
        await all_told(begun)
        return begun


async def all_told(by: datetime) -> None:
    """Record that all findings signed until `by` were reported; the next rescan compares with these."""
    await Variable.aset(TOLD, by.isoformat(), overwrite=True)


async def publish(rescanned: RescanReport, workbench: Workbench) -> None:
    """Publish the tables for operators and owners, and notify if there is anything to report.

    A rescan for some packages has its own tables, because it does not report on other packages.
    """
    said, key = reports.rescan_summary(rescanned), "rescan-packages" if rescanned.only else "rescan"
    get_run_logger().info("%s", said)
    about = reports.escape(said)
    await acreate_markdown_artifact(key=f"{key}-summary", markdown=reports.rescan_page(rescanned), description=about)
    await acreate_table_artifact(key=key, table=reports.rescan_rows(rescanned), description=about)
    await acreate_table_artifact(key=f"{key}-owners", table=reports.owner_rows(rescanned), description=about)
    if rescanned.signed:
        emit_event(SIGNED, RESCAN, payload={"reports": rescanned.signed})
    if rescanned.reported or rescanned.unjudged or rescanned.left:
        await notify(f"Rescan: {said}", reports.rescan_message(rescanned), workbench)
