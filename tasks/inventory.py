"""Tasks of the inventory: refresh it from registry, evidence and hosts, and query it."""

from __future__ import annotations

from itertools import chain

from prefect.artifacts import acreate_table_artifact

from blocks import Inventory
from blocks.hosts import load_hosts
from blocks.lifecycle_ports import LifecyclePorts
from orchestration.clock import read_clock
from orchestration.steps import run_in_thread, step
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.environment_documents import join_invalid_errors
from supply_chain.fleet.explain import Explanation, explain
from supply_chain.fleet.gate_facts import refresh_facts
from supply_chain.fleet.hosts import observe_hosts
from supply_chain.fleet.reconcile import ReconcileResult, list_applications, refresh
from supply_chain.fleet.where import Place, find_places, list_exclusions, parse_question
from supply_chain.reports import freshness_line, image_rows, truncate_rows
from supply_chain.text import pluralize


@step("refresh the inventory")
def refresh_step(
    application: str | None, ports: LifecyclePorts, inventory: Inventory, rebuild: bool
) -> tuple[ReconcileResult, ...]:
    """Reconcile one application's images, or all images, with the registry; `rebuild` also reads unchanged ones.

    Then the facts of the gates that are missing are read.
    """
    environments = ports.workbench.environment_documents().readable
    hosts = {each.name: each.host for each in environments if isinstance(each, DockerEnvironment)}
    database, registry = inventory.open(), ports.repositories
    if rebuild:
        database.mark_stale(application)
    names = (application,) if application else list_applications(registry, database)
    registered = ports.workbench.registered
    done = tuple(
        refresh(name, registry, ports.evidence, database, lambda e: hosts.get(e, ""), registered(name))
        for name in names
    )
    failed = refresh_facts(application, database, ports.facts_reader())
    return tuple(each.with_failed(failed) for each in done)


@step("observe the hosts")
async def observe_hosts_step(ports: LifecyclePorts, inventory: Inventory) -> int:
    """Store in the inventory what runs on each environment's host or cluster; return the number of containers.

    Raise `SettingInvalid` once that is done if a document cannot be read. Its host is unknown, so what was stored of
    others stays.
    """
    documents = ports.workbench.environment_documents()
    hosts = await load_hosts(documents.readable, ports.tier.session)
    unknown = bool(documents.unreadable)
    containers = await run_in_thread(lambda: observe_hosts(hosts, inventory.open(), read_clock, are_all=not unknown))
    if unknown:
        raise join_invalid_errors(
            documents.unreadable, "It is unknown what runs in environments whose documents are invalid"
        )
    return len(containers)


@step("record the time")
def record_time_step(inventory: Inventory) -> None:
    """Record that everything was reconciled with registry and hosts by now."""
    inventory.open().record_reconciled(read_clock())


@step("publish the images table")
async def list_images_step(inventory: Inventory) -> int:
    """Publish a table of all images; return their number."""

    def list_images() -> list[dict[str, str]]:
        database = inventory.open()
        return image_rows(chain(database.list_removed(), database.images()))

    rows = await run_in_thread(list_images)
    about = f"{pluralize(len(rows), 'curated image')}, as of the last reconciliation; `cscm images` lists all"
    await acreate_table_artifact(key="images", table=truncate_rows(rows), description=about)
    return len(rows)


@step("find images")
def find_images_step(question: str, inventory: Inventory) -> tuple[Place, ...]:
    """Return the images that contain what the question names."""
    return find_places(parse_question(question), inventory.open())


@step("read the inventory's time")
def read_time_step(question: str, inventory: Inventory) -> str:
    """Return the age of the inventory's data, and of how many images it cannot tell."""
    database = inventory.open()
    return freshness_line(database.find_last_reconciliation(), list_exclusions(database, parse_question(question)))


@step("explain")
def explain_step(digest: str, inventory: Inventory) -> tuple[Explanation, ...]:
    """Return everything that is known of the images with a digest."""
    return explain(digest, inventory.open())
