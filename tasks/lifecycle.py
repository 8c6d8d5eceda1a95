"""lifecycle: plans of what is aged out, archived and blocked; carrying them out; what somebody decides of an image."""

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
from blocks.lifecycle import bench, present
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.standing import Act
from supply_chain.fleet.known import KnownImage
from supply_chain.lifecycle.apply import Applied, Entry
from supply_chain.lifecycle.apply import apply as carry_out
from supply_chain.lifecycle.apply import built_on as bases_of
from supply_chain.lifecycle.apply import done as begun
from supply_chain.lifecycle.apply import needed_anywhere as what_runs
from supply_chain.lifecycle.apply import unfinished as left_undone
from supply_chain.lifecycle.enforce import Enforced, enforce_blocks
from supply_chain.lifecycle.plan import Plan
from supply_chain.lifecycle.planning import plan as plan_of
from supply_chain.lifecycle.rulings import STOOD, Ruled, approve, decide
from supply_chain.model.image import Digest, ImageRef
from supply_chain.reports import applied_rows, plan_rows

ONCE: dict[str, Any] = {**RETRYING, "cache_policy": RUN_ID + TASK_SOURCE, "persist_result": True}
"""As other steps; a run that was suspended and goes on has its result from before."""


async def known_images() -> tuple[KnownImage, ...]:
    """What the inventory knows; the lifecycle has it from here alone."""
    inventory: Inventory = await Inventory.aload("inventory")
    return await in_thread(lambda: tuple(image.lean() for image in inventory.open().images()))


@task(name="plan the lifecycle", task_run_name="plan by {rules}", **ONCE)
async def plan(rules: str, tier: Tier, workbench: Workbench) -> Plan:
    """What the rules come to now: a plan, and a table of it. Nothing is changed."""
    wanted, images = workbench.rules(rules), await known_images()
    found = await in_thread(lambda: plan_of(present(tier, workbench).stock(images, now()), wanted, now()))
    await acreate_table_artifact(key="lifecycle-plan", table=plan_rows(found), description=f"By {rules}: {found}")
    return found


@task(name="look what runs", task_run_name="look what runs", **RETRYING)
async def needed_anywhere(found: Plan, tier: Tier, workbench: Workbench) -> frozenset[Digest]:
    """What should run or a rollback may need, by what execution signed of all applications."""
    return await in_thread(lambda: what_runs(found, present(tier, workbench)))


@task(name="look what is built on what", task_run_name="look what is built on what", **RETRYING)
async def built_on(found: Plan, tier: Tier, workbench: Workbench) -> frozenset[Digest]:
    """The bases of whatever is there and does not go."""
    return await in_thread(lambda: bases_of(found, present(tier, workbench)))


@task(name="carry out the plan", task_run_name="carry out in {repository}", **RETRYING)
async def apply(
    found: Plan,
    repository: str,
    needed: Collection[Digest],
    bases: Collection[Digest],
    tier: Tier,
    workbench: Workbench,
) -> tuple[Entry, ...]:
    """Do what the plan says of a repository, as far as what it rested on still holds."""

    def block(ref: ImageRef, of: str, why: str) -> None:
        by = f"the rules {found.rules}"
        decide(ref, Act.BLOCK, bench(tier, workbench), by=by, why=why, now=now(), of=of, only_sign=True, tell=told)

    now_so = present(tier, workbench)
    return await in_thread(carry_out, found, repository, needed, bases, tier.ecr, now_so, block, _journal(found))


async def unfinished(found: Plan, repository: str, error: SupplyChainError) -> tuple[Entry, ...]:
    """What was done of the plan in a repository before an error kept it from being finished; the rest has its code."""
    return await in_thread(left_undone, found, repository, error, _journal(found))


def done_so_far(found: Plan, repository: str) -> tuple[Entry, ...]:
    """What was done of the plan in a repository, by a run that is ended in the midst of it."""
    return begun(found, repository, _journal(found))


def _journal(found: Plan) -> FileJournal:
    return FileJournal(get_current_settings().home / "lifecycle" / f"{found.digest.removeprefix('sha256:')}.journal")


async def publish(applied: Applied, found: Plan) -> None:
    """Write the table of what came of a plan."""
    await acreate_table_artifact(
        key="lifecycle-applied", table=applied_rows(applied), description=f"By {found.rules}: {applied}"
    )


@task(name="sign the decision", task_run_name="sign the decision", **RETRYING)
async def sign_approval(plan: Digest, yes: bool, by: str, why: str, tier: Tier, workbench: Workbench) -> None:
    """What somebody decided about a plan that is above its limits is a signed statement, and no click alone."""
    evidence = tier.evidence(workbench)
    await in_thread(lambda: approve(plan, yes, evidence, tier.ecr, by=by, why=why, now=now()))


@task(name="decide", task_run_name="{act} {ref.application}", **RETRYING)
async def rule(ref: ImageRef, act: Act, by: str, why: str, tier: Tier, workbench: Workbench) -> Ruled:
    """Sign what somebody decided about an image, and do at once what follows from it."""
    return await in_thread(lambda: decide(ref, act, bench(tier, workbench), by=by, why=why, now=now(), tell=told))


@task(name="enforce blocks", task_run_name="enforce blocks", **RETRYING)
async def enforce(tier: Tier, workbench: Workbench) -> Enforced:
    """Archive what is blocked and can be pulled again, under whatever name."""
    return await in_thread(enforce_blocks, tier.ecr, tier.evidence(workbench), present(tier, workbench))


def told(ruled: Ruled) -> None:
    """Emit what was decided, for whoever has to answer it.

    A hold that stood already is not told again. A block is: this may be the second run of one that was signed, and was
    killed before anybody heard of it. Where a step is tried again, it is the same event.
    """
    if not ruled.changed and ruled.act not in (Act.BLOCK, Act.UNBLOCK):
        return
    emit(
        {
            Act.BLOCK: "image.blocked",
            Act.UNBLOCK: "image.unblocked",
            Act.HOLD: "image.held",
            Act.RELEASE: "image.released",
        }[ruled.act],
        ruled.ref,
        None,
        _number(ruled),
        by=ruled.by,
        why=ruled.why,
        stood="" if ruled.changed else STOOD[ruled.act],
        running=None if ruled.unread else [each.model_dump() for each in ruled.running],
    )


def _number(ruled: Ruled) -> UUID | None:
    """The event's own, by which Prefect takes what the tries of one step tell for one event."""
    return uuid5(UUID(task_run.id), f"{ruled.act} {ruled.ref}") if task_run.id else None
