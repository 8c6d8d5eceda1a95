"""Publishes the progress and the results of a rescan, and remembers when one reported on all images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime

from prefect import get_run_logger
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.events import emit_event
from prefect.variables import Variable
from pydantic import AwareDatetime, TypeAdapter, ValidationError

from orchestration.notifications import notify
from supply_chain import reports
from supply_chain.fleet.exposure import RescanReport
from supply_chain.fleet.tally import Tally

REPORTED = "rescan_reported"
"""The variable with the time of the last rescan that reported on all images."""
SIGNED = "cscm.rescan.signed"
RESCAN = {"prefect.resource.id": "cscm.rescan", "prefect.resource.name": "rescan"}
EVERY = 5.0
"""Seconds between two updates of the progress bar."""
AT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


@asynccontextmanager
async def publish_progress(tally: Tally) -> AsyncIterator[None]:
    """Publish the progress of the run while the block runs: a bar with count, rate and remaining time."""

    def describe() -> str:
        return reports.rescan_progress(tally.done, tally.total, tally.seconds, tally.unjudged)

    bar = await acreate_progress_artifact(progress=0.0, key="rescan-progress", description=describe())

    async def update() -> None:
        await aupdate_progress_artifact(artifact_id=bar, progress=tally.percent, description=describe())

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


async def find_last_full_report_time(begun: datetime) -> datetime:
    """Return the time of the last rescan that reported on all images.

    If there is none, or its variable is lost, return `begun`, the start of this rescan, and store it: this rescan may
    be killed after it signed something.
    """
    try:
        return AT.validate_python(await Variable.aget(REPORTED))
    except ValidationError:
        await record_full_report(begun)
        return begun


async def record_full_report(by: datetime) -> None:
    """Record that all findings signed until `by` were reported; the next rescan compares with these."""
    await Variable.aset(REPORTED, by.isoformat(), overwrite=True)


async def publish(rescanned: RescanReport, notification: str) -> None:
    """Publish the tables for operators and owners, and notify through a block if there is anything to report.

    A rescan for some packages has its own tables, because it does not report on other packages.
    """
    summary, key = reports.rescan_summary(rescanned), "rescan-packages" if rescanned.packages else "rescan"
    get_run_logger().info("%s", summary)
    about = reports.escape(summary)
    await acreate_markdown_artifact(key=f"{key}-summary", markdown=reports.rescan_page(rescanned), description=about)
    await acreate_table_artifact(key=key, table=reports.rescan_rows(rescanned), description=about)
    await acreate_table_artifact(key=f"{key}-owners", table=reports.owner_rows(rescanned), description=about)
    if rescanned.signed:
        emit_event(SIGNED, RESCAN, payload={"reports": rescanned.signed})
    if rescanned.reported or rescanned.unjudged or rescanned.images_not_rescanned:
        await notify(f"Rescan: {summary}", reports.rescan_message(rescanned), notification)
