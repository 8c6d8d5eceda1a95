"""Flow `rescan`: match all curated images with one version of the vulnerability database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

from prefect import flow

from blocks import Inventory
from blocks.curation_ports import CurationPorts
from orchestration.clock import read_clock
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.rescan_report import find_last_full_report_time, publish, publish_progress, record_full_report
from orchestration.run_names import name_run_by_parameters
from orchestration.steps import run_in_thread
from supply_chain.fleet.exposure import Fixes, RescanReport, make_incomplete_error
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.rescan import RescanPorts, find_fixed, sort_bases_first, split_into_chunks, split_package_names
from supply_chain.fleet.tally import Tally
from supply_chain.fleet.where import require_package_names
from tasks.rescan import list_all_images_step, rescan_step, set_up_step

RETRY_PAUSES = (10.0, 60.0)
"""Pauses in seconds before retries of images for which a registry or AWS did not answer."""
NIGHT = 12 * 3600
"""Seconds that a rescan waits for the one before it."""


@flow(name="rescan", flow_run_name=name_run_by_parameters)
async def rescan(packages: list[str] | None = None) -> RescanReport:
    """Match the SBOM of every curated image with the current vulnerability database; sign and judge what changed.

    Args:
        packages: Only images with one of these: openssl, openssl@3.0.1 or a package URL. If empty, all images.
    """
    only, strange = split_package_names(packages or ())
    curation, inventory = await asyncio.gather(CurationPorts.aload(), Inventory.aload("inventory"))
    async with run_lock(lock_name(LockKind.RESCAN), NIGHT), _set_up(curation) as ports:
        images = await list_all_images_step(curation, inventory)
        tally = Tally.of(images, ports.scanner, read_clock(), only)
        try:
            await _rescan(images, ports, tally)
        finally:
            rescanned = tally.rescanned()
            await publish(rescanned, curation.workbench.notify)
        if rescanned.is_complete:
            await record_full_report(read_clock())
        if not only:
            await run_in_thread(curation.workbench.forget_stale, rescanned.database)
    if rescanned.unjudged:
        raise make_incomplete_error(rescanned.unjudged)
    require_package_names(strange)  # last, so that other images do not wait because of invalid package names
    return rescanned


@asynccontextmanager
async def _set_up(ports: CurationPorts) -> AsyncIterator[RescanPorts]:
    """Yield the dependencies of the run, with the database pinned until the block ends."""
    with ExitStack() as stack:
        scanner = await run_in_thread(stack.enter_context, ports.workbench.pinned_scanner())
        yield await set_up_step(ports, scanner)


async def _rescan(images: Sequence[FleetImage], ports: RescanPorts, tally: Tally) -> None:
    """Rescan bases first: a finding that a newer base lacks is one that a rebuild on it would remove."""
    ports = replace(ports, on_result=tally.add, last_full_report_time=await find_last_full_report_time(tally.begun))
    bases, others = sort_bases_first(images)
    async with publish_progress(tally):
        await _all(bases, ports, {}, tally)
        fixed = await run_in_thread(find_fixed, images, tally.results, ports)
        await _all(others, ports, fixed, tally)


async def _all(images: Sequence[FleetImage], ports: RescanPorts, fixed: Fixes, tally: Tally) -> None:
    """Rescan all images, one chunk at a time; repeat those without an answer after each of `RETRY_PAUSES`."""
    for pause in (0.0, *RETRY_PAUSES):
        left = tally.list_retryable(images) if pause else images
        if not left:
            break
        await asyncio.sleep(pause)
        for number, chunk in enumerate(split_into_chunks(left), 1):
            await rescan_step(number, chunk, ports, tally.only, fixed)
