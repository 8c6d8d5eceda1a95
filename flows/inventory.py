"""Flows `inventory`, `where` and `explain`: refresh the inventory, find images, and show an image's history."""

from __future__ import annotations

import asyncio

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from blocks import Inventory
from blocks.lifecycle_ports import LifecyclePorts
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.run_names import name_run_by_parameters
from orchestration.run_states import complete_as
from supply_chain import reports
from supply_chain.fleet.explain import Explanation
from supply_chain.fleet.reconcile import ReconcileResult
from supply_chain.fleet.where import Place
from supply_chain.model.image import ImageRef, shorten_digest
from supply_chain.text import pluralize
from tasks.inventory import (
    explain_step,
    find_images_step,
    list_images_step,
    observe_hosts_step,
    read_time_step,
    record_time_step,
    refresh_step,
)


@flow(name="inventory", flow_run_name=name_run_by_parameters)
async def inventory(
    application: str | None = None, image: str | None = None, rebuild: bool = False
) -> tuple[ReconcileResult, ...]:
    """Reconcile the inventory with the registry, the container hosts and the clusters.

    The run ends as Unreadable if an image cannot be read.

    Args:
        application: The name of one application. If empty, all applications.
        image: Instead of the name, an image of the application, such as curated/hello@sha256:…
        rebuild: Read unchanged images again too. The facts about an image stay until it is read.
    """
    # the lifecycle may read all evidence of images
    ports, inventory = await asyncio.gather(LifecyclePorts.aload(), Inventory.aload("inventory"))
    if image:
        application = ImageRef.parse(image).application
    async with run_lock(lock_name(LockKind.INVENTORY)):
        done = await refresh_step(application, ports, inventory, rebuild)
        await observe_hosts_step(ports, inventory)
        if application is None:
            await record_time_step(inventory)
            await list_images_step(inventory)
    unreadable = [each for one in done for each in one.unreadable]
    if unreadable:
        return complete_as("Unreadable", ", ".join(unreadable), done)
    return done


@flow(name="where", flow_run_name="where {question}")
async def where(question: str) -> tuple[Place, ...]:
    """List the curated images that contain a vulnerability, a package, an image or a base; running ones first.

    Args:
        question: What to look for: CVE-2026-1234, zlib1g, zlib1g@1:1.2.13, a digest, or base/python.
    """
    inventory = await Inventory.aload("inventory")
    places, age = await find_images_step(question, inventory), await read_time_step(question, inventory)
    rows = reports.truncate_rows([reports.place_row(each) for each in places])
    about = reports.escape(f"{question}: {pluralize(len(places), 'curated image')}, {age}")
    await acreate_table_artifact(key="where", table=rows, description=about)
    return places


@flow(name="explain", flow_run_name="explain {digest}")
async def explain(digest: str) -> tuple[Explanation, ...]:
    """Show the history of an image: what happened and why, what runs from it, and what depends on it.

    Args:
        digest: The image's digest, or at least its first 12 digits.
    """
    explanations = await explain_step(digest, await Inventory.aload("inventory"))
    for each in explanations:
        page = reports.explanation_page(each)
        await acreate_markdown_artifact(key=f"explain-{shorten_digest(each.image.ref.digest)}", markdown=page)
    return explanations
