"""Tasks of the lifecycle: plan expiry, archiving and blocks, apply a plan, and sign decisions on an image."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid5

from prefect import task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import RUN_ID, TASK_SOURCE
from prefect.runtime import task_run
from prefect.settings import get_current_settings

from blocks import Inventory, Tier, Workbench
from blocks.lifecycle_ports import decision_ports, registry_reader
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.image_status import Act
from supply_chain.fleet.image import FleetImage
from supply_chain.lifecycle.apply import Applied, Entry
from supply_chain.lifecycle.apply import apply as carry_out
from supply_chain.lifecycle.apply import completed_entries as begun
from supply_chain.lifecycle.apply import find_bases_in_use as bases_of
from supply_chain.lifecycle.apply import find_needed as what_runs
from supply_chain.lifecycle.apply import unfinished_entries as left_undone
from supply_chain.lifecycle.decisions import UNCHANGED, DecisionResult, approve_plan, decide
from supply_chain.lifecycle.enforce import Enforced, enforce_blocks
from supply_chain.lifecycle.plan import Plan
from supply_chain.lifecycle.planning import plan_lifecycle as plan_of
from supply_chain.model.image import Digest, ImageRef
from supply_chain.reports import applied_rows, plan_rows

ONCE: dict[str, Any] = {**RETRYING, "cache_policy": RUN_ID + TASK_SOURCE, "persist_result": True}
"""Options like those of other steps; a run that continues after a suspension reuses its earlier result."""


async def known_images() -> tuple[FleetImage, ...]:
    """Return the images that the inventory knows; the lifecycle gets them only from here."""
    inventory: Inventory = await Inventory.aload("inventory")
    return await in_thread(lambda: tuple(image.lean() for image in inventory.open().images()))


@task(name="plan the lifecycle", task_run_name="plan by {rules}", **ONCE)
async def plan(rules: str, tier: Tier, workbench: Workbench) -> Plan:
    """Plan by the rules, publish the plan as a table, and return it. Nothing is changed."""
    wanted, images = workbench.rules(rules), await known_images()
    found = await in_thread(
        lambda: plan_of(registry_reader(tier, workbench).read_snapshot(images, now()), wanted, now())
    )
    await acreate_table_artifact(key="lifecycle-plan", table=plan_rows(found), description=f"By {rules}: {found}")
    return found


@task(name="find running images", task_run_name="find running images", **RETRYING)
async def find_needed(found: Plan, tier: Tier, workbench: Workbench) -> frozenset[Digest]:
    """Return what should run or what a rollback may need, by what execution signed for all applications."""
    return await in_thread(lambda: what_runs(found, registry_reader(tier, workbench)))


@task(name="find used bases", task_run_name="find used bases", **RETRYING)
async def built_on(found: Plan, tier: Tier, workbench: Workbench) -> frozenset[Digest]:
    """Return the bases of all images that exist and are not removed."""
    return await in_thread(lambda: bases_of(found, registry_reader(tier, workbench)))


@task(name="apply the plan", task_run_name="apply in {repository}", **RETRYING)
async def apply(
    found: Plan,
    repository: str,
    needed: Collection[Digest],
    bases: Collection[Digest],
    tier: Tier,
    workbench: Workbench,
) -> tuple[Entry, ...]:
    """Apply the plan to one repository, as far as the preconditions of its steps still hold."""

    def block(ref: ImageRef, of: str, reason: str) -> None:
        by = f"the rules {found.rules}"
        decide(
            ref,
            Act.BLOCK,
            decision_ports(tier, workbench),
            by=by,
            reason=reason,
            now=now(),
            of=of,
            only_sign=True,
            tell=told,
        )

    now_so = registry_reader(tier, workbench)
    return await in_thread(carry_out, found, repository, needed, bases, tier.ecr, now_so, block, _journal(found))


async def unfinished(found: Plan, repository: str, error: SupplyChainError) -> tuple[Entry, ...]:
    """Return the entries of a plan that was interrupted by an error in a repository; the rest has the error's code."""
    return await in_thread(left_undone, found, repository, error, _journal(found))


def done_so_far(found: Plan, repository: str) -> tuple[Entry, ...]:
    """Return the entries of a plan that a run completed in a repository before it was ended."""
    return begun(found, repository, _journal(found))


def _journal(found: Plan) -> FileJournal:
    return FileJournal(get_current_settings().home / "lifecycle" / f"{found.digest.removeprefix('sha256:')}.journal")


async def publish(applied: Applied, found: Plan) -> None:
    """Publish the table of a plan's outcome."""
    await acreate_table_artifact(
        key="lifecycle-applied", table=applied_rows(applied), description=f"By {found.rules}: {applied}"
    )


@task(name="sign the decision", task_run_name="sign the decision", **RETRYING)
async def sign_approval(plan: Digest, yes: bool, by: str, reason: str, tier: Tier, workbench: Workbench) -> None:
    """Sign a person's decision about a plan that is above its limits; a click in the UI alone does not count."""
    evidence = tier.evidence(workbench)
    await in_thread(lambda: approve_plan(plan, yes, evidence, tier.ecr, by=by, reason=reason, now=now()))


@task(name="decide", task_run_name="{act} {ref.application}", **RETRYING)
async def rule(ref: ImageRef, act: Act, by: str, reason: str, tier: Tier, workbench: Workbench) -> DecisionResult:
    """Sign a person's decision about an image, and carry out its immediate consequences."""
    return await in_thread(
        lambda: decide(ref, act, decision_ports(tier, workbench), by=by, reason=reason, now=now(), tell=told)
    )


@task(name="enforce blocks", task_run_name="enforce blocks", **RETRYING)
async def enforce(tier: Tier, workbench: Workbench) -> Enforced:
    """Archive blocked images that can be pulled again, under whatever name."""
    return await in_thread(enforce_blocks, tier.ecr, tier.evidence(workbench), registry_reader(tier, workbench))


def told(ruled: DecisionResult) -> None:
    """Emit an event for a decision, for those who have to respond to it.

    A hold that existed already is not emitted again. A block is: an earlier run may have signed it and then been
    killed before it emitted the event. If the step is retried, the event has the same id.
    """
    if not ruled.changed and ruled.act not in (Act.BLOCK, Act.UNBLOCK):
        return
    emit(
        {
            Act.BLOCK: "image.blocked",
            Act.UNBLOCK: "image.unblocked",
            Act.HOLD: "image.held",
            Act.UNHOLD: "image.unheld",
        }[ruled.act],
        ruled.ref,
        None,
        _number(ruled),
        by=ruled.by,
        reason=ruled.reason,
        unchanged="" if ruled.changed else UNCHANGED[ruled.act],
        running=None if ruled.unread else [each.model_dump() for each in ruled.running],
    )


def _number(ruled: DecisionResult) -> UUID | None:
    """Return the id of the event, by which Prefect recognises the events of a step's retries as one."""
    return uuid5(UUID(task_run.id), f"{ruled.act} {ruled.ref}") if task_run.id else None
