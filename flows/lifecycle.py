"""lifecycle: plan what is aged out, archived and blocked, and carry it out; above a limit with somebody's approval."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from prefect import flow
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from blocks import Tier, Workbench
from flows.ends import ended
from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.approval import Words
from supply_chain.image import Digest, application_of
from supply_chain.lifecycle.apply import Applied, Entry
from supply_chain.lifecycle.plan import Plan, read_plan
from supply_chain.tier import is_base_repository
from tasks.lifecycle import apply, built_on, needed_anywhere, plan, publish, sign_approval
from tasks.running import whole
from tasks.turns import DEPLOY, turn, turn_name

PATIENCE = 7 * 24 * 3600
"""Seconds that a plan waits for approval. Then the run ends, and the next one plans anew."""


class Approval(RunInput):
    """What an operator fills in when a suspended run is resumed."""

    approve: bool = Field(default=False, description="Carry the plan out? It is this run's artifact lifecycle-plan.")
    by: Words = Field(description="Who decides it. It is signed.")
    why: Words = Field(description="Why. It is signed.")


@flow(name="lifecycle", flow_run_name="lifecycle by {rules}")
async def lifecycle(rules: str = "nightly", dry_run: bool | None = None) -> Applied | Plan:
    """Plan by the rules; carry the plan out where it is under its limits, or once somebody approved it.

    Args:
        rules: The name of a document in deployments/lifecycle.
        dry_run: Only plan. Empty means as the profile says.
    """
    tier, workbench = await asyncio.gather(Tier.aload("lifecycle"), Workbench.aload("workbench"))
    found = await plan(rules, tier, workbench)
    only_plan = workbench.lifecycle == "plan" if dry_run is None else dry_run
    if only_plan or not found.changes:
        return found
    if found.over:
        about = f"{found}. {'; '.join(found.over)}."
        said = await asuspend_flow_run(
            wait_for_input=Approval.with_initial_data(description=about),
            timeout=PATIENCE,
            key=f"approval-{found.digest.removeprefix('sha256:')}",  # what was said of another plan is no answer
        )
        await sign_approval(found.digest, said.approve, said.by, said.why, tier, workbench)
        if not said.approve:
            return ended("Rejected", f"rejected by {said.by}: {said.why}", found)
    found.hold_to(workbench.rules(rules))  # which may have changed while it waited
    return await _carried_out(found, tier, workbench)


async def _carried_out(found: Plan, tier: Tier, workbench: Workbench) -> Applied:
    """One repository after the other, while nothing of its application is deployed."""
    entries: list[Entry] = []
    async with turn(turn_name("lifecycle")):
        needed = await needed_anywhere(whole(found), tier, workbench)
        bases: frozenset[Digest] | None = None
        for repository in found.repositories:
            if is_base_repository(repository) and bases is None:  # they come last
                bases = await built_on(whole(found), tier, workbench)
            async with _no_deployment(repository, workbench):
                entries += await apply(whole(found), repository, whole(needed), whole(bases or ()), tier, workbench)
        return await publish(Applied(plan=found.digest, entries=tuple(entries)), found)


@asynccontextmanager
async def _no_deployment(repository: str, workbench: Workbench) -> AsyncIterator[None]:
    """Hold every turn in which an image of the repository could be deployed; bases never are."""
    async with AsyncExitStack() as turns:
        if not is_base_repository(repository):
            for place in workbench.environments():
                await turns.enter_async_context(turn(turn_name(DEPLOY, place.name, application_of(repository))))
        yield


@flow(name="lifecycle plan", flow_run_name="lifecycle plan by {rules}")
async def plan_only(rules: str = "nightly") -> Plan:
    """Plan, and change nothing.

    Args:
        rules: The name of a document in deployments/lifecycle.
    """
    tier, workbench = await asyncio.gather(Tier.aload("lifecycle"), Workbench.aload("workbench"))
    return await plan(rules, tier, workbench)


@flow(name="lifecycle apply", flow_run_name="lifecycle apply")
async def apply_only(path: str, by: str, why: str, digest: str | None = None) -> Applied:
    """Carry out a plan that somebody read, and sign their approval where it is above its limits.

    Args:
        path: The file of the plan, as `cscm lifecycle plan -o` wrote it.
        by: Who decided it.
        why: Why.
        digest: Of the plan that was read; another one that lies there by now is not carried out.
    """
    found = read_plan(Path(path))
    if digest not in (None, found.digest):
        raise DeclarationInvalid(f"{path} is another plan than the one that was read.\nRead it, and apply it again.")
    tier, workbench = await asyncio.gather(Tier.aload("lifecycle"), Workbench.aload("workbench"))
    found.hold_to(workbench.rules(found.rules))
    if found.over:
        await sign_approval(found.digest, True, by, why, tier, workbench)
    return await _carried_out(found, tier, workbench)
