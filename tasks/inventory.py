"""Tasks of the inventory: refresh it from registry, evidence and hosts, and query it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from prefect import task
from prefect.artifacts import acreate_table_artifact

from blocks import ContainerHost, Inventory, Tier, Workbench
from orchestration.clock import now
from orchestration.steps import RETRYING, in_thread
from supply_chain.fleet import reconcile as fleet
from supply_chain.fleet.explain import Explanation, explain
from supply_chain.fleet.reconcile import ReconcileResult
from supply_chain.fleet.where import Place, find_places, list_exclusions, parse_question
from supply_chain.model.container import Engine
from supply_chain.reports import freshness_line, image_rows, truncate_rows
from supply_chain.text import pluralize


@task(name="refresh the inventory", task_run_name="refresh the inventory", **RETRYING)
async def refresh(
    application: str | None, tier: Tier, workbench: Workbench, inventory: Inventory, rebuild: bool
) -> tuple[ReconcileResult, ...]:
    """Reconcile one application's images, or all images, with the registry; `rebuild` also reads unchanged ones."""
    places = {place.name: place.host for place in workbench.environments()}

    def work() -> tuple[ReconcileResult, ...]:
        known, evidence = inventory.open(), tier.evidence(workbench)
        if rebuild:
            known.mark_stale(application)
        names = (application,) if application else fleet.list_applications(tier.ecr, known)
        return tuple(fleet.refresh(name, tier.ecr, evidence, known, lambda e: places.get(e, "")) for name in names)

    return await in_thread(work)


@task(name="observe the hosts", task_run_name="observe the hosts", **RETRYING)
async def look(workbench: Workbench, inventory: Inventory) -> int:
    """Store in the inventory what runs on each environment's host; return the number of containers."""
    engines: dict[str, Callable[[], Engine]] = {}
    for name in sorted({place.host for place in workbench.environments()}):
        host: ContainerHost = await ContainerHost.aload(name)
        engines[name] = host.engine
    seen = await in_thread(lambda: fleet.observe_hosts(engines, inventory.open(), now))
    return len(seen)


@task(name="record the time", task_run_name="record the time", **RETRYING)
async def reconciled(inventory: Inventory) -> None:
    """Record that everything was reconciled with registry and hosts by now."""
    await in_thread(lambda: inventory.open().record_reconciled(now()))


@task(name="list images", task_run_name="list images", **RETRYING)
async def list_images(inventory: Inventory) -> int:
    """Publish a table of all images; return their number."""

    def listed() -> list[dict[str, str]]:
        known = inventory.open()
        return image_rows(chain(known.list_removed(), known.images()))

    rows = await in_thread(listed)
    said = f"{pluralize(len(rows), 'curated image')}, as of the last reconciliation; `cscm images` lists all"
    await acreate_table_artifact(key="images", table=truncate_rows(rows), description=said)
    return len(rows)


@task(name="find images", task_run_name="find images", **RETRYING)
async def places_of(question: str, inventory: Inventory) -> tuple[Place, ...]:
    """Return the images that contain what the question names."""
    return await in_thread(lambda: find_places(parse_question(question), inventory.open()))


@task(name="read the inventory's time", task_run_name="read the inventory's time", **RETRYING)
async def inventory_time(question: str, inventory: Inventory) -> str:
    """Return the age of the inventory's data, and of how many images it cannot tell."""

    def said() -> str:
        known = inventory.open()
        return freshness_line(known.last_reconciled(), list_exclusions(known, parse_question(question)))

    return await in_thread(said)


@task(name="explain", task_run_name="explain", **RETRYING)
async def explanations_of(digest: str, inventory: Inventory) -> tuple[Explanation, ...]:
    """Return everything that is known of the images with a digest."""
    return await in_thread(lambda: explain(digest, inventory.open()))
