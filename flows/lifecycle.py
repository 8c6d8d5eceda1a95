"""Flow `lifecycle`: plan which images are removed, archived or blocked, and apply the plan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from prefect import flow
from prefect.artifacts import acreate_table_artifact
from prefect.context import FlowRunContext
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from blocks.lifecycle_ports import LifecyclePorts
from orchestration.clock import read_clock
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.run_states import UNNEEDED, complete_as
from orchestration.steps import run_in_thread
from supply_chain.errors import DeclarationInvalid, SupplyChainError
from supply_chain.evidence.personal_decision import Words
from supply_chain.execution.environment_documents import join_invalid_errors
from supply_chain.lifecycle.apply import Applied, Entry, list_completed_entries, list_unfinished_entries
from supply_chain.lifecycle.plan import Plan, read_plan
from supply_chain.model.image import Digest, parse_application_name
from supply_chain.model.tier import is_base_repository
from supply_chain.reports import applied_rows
from tasks.lifecycle import apply_step, find_bases_step, find_needed_step, plan_step, sign_plan_answer_step

MISSED = timedelta(hours=24)
"""Delay after which a run is skipped, because the next one is due.

Otherwise, the runs of several nights together could exceed the limits of one run.
"""
PATIENCE = 7 * 24 * 3600
"""Seconds that a plan waits for approval. Then the run ends, and the next one makes a new plan."""


class PlanAnswer(RunInput):
    """The form that an operator fills in to resume a suspended run."""

    approve: bool = Field(default=False, description="Apply the plan? It is this run's artifact lifecycle-plan.")
    by: Words = Field(description="The name of the person who decides. It is signed.")
    reason: Words = Field(description="The reason. It is signed.")


@flow(name="lifecycle", flow_run_name="lifecycle by {rules}")
async def lifecycle(rules: str = "nightly", dry_run: bool | None = None) -> Applied | Plan | None:
    """Make a plan by the rules and apply it; a plan above its limits is applied only after a person approves it.

    Args:
        rules: The name of a document in deployments/lifecycle.
        dry_run: Make the plan but do not apply it. If empty, the workbench block decides.
    """
    if due := _find_missed_time():
        return complete_as(UNNEEDED, f"it was due on {due:%Y-%m-%d %H:%M}, and a later run makes a new plan", None)
    ports = await LifecyclePorts.aload()
    plan = await plan_step(rules, ports)
    only_plan = ports.workbench.lifecycle == "plan" if dry_run is None else dry_run
    if only_plan or not plan.changes:
        return plan
    if plan.exceeded_limits:
        about = f"{plan}. {'; '.join(plan.exceeded_limits)}."
        answer = await asuspend_flow_run(
            wait_for_input=PlanAnswer.with_initial_data(description=about),
            timeout=PATIENCE,
            key=f"approval-{plan.digest.removeprefix('sha256:')}",  # an answer about another plan must not count
        )
        await sign_plan_answer_step(plan.digest, answer.approve, answer.by, answer.reason, ports)
        if not answer.approve:
            return complete_as("Rejected", f"rejected by {answer.by}: {answer.reason}", plan)
    plan.hold_to(ports.workbench.rules(rules))  # the rules may have changed while the run waited
    return await _apply(plan, ports)


def _find_missed_time() -> datetime | None:
    """Return when this run was due if it began too late; else None, also if it continues with an approved plan."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.expected_start_time is None:
        return None
    late = (run.start_time or read_clock()) - run.expected_start_time
    return run.expected_start_time if late > MISSED else None


async def _apply(plan: Plan, ports: LifecyclePorts) -> Applied:
    """Apply the plan to one repository after the other, while none of its images is admitted or deployed.

    An error in one repository is reported with its steps and does not stop the others. What was done is published,
    however the run ends. While the document of an environment cannot be read or is not active, only what is blocked
    already is archived again: every other step is skipped, and `SettingInvalid` is raised at the end.
    """
    done: dict[str, tuple[Entry, ...]] = {}
    journal = ports.journal(plan)
    async with run_lock(lock_name(LockKind.LIFECYCLE)):
        in_use, unknown = await find_needed_step(plan, ports)
        bases: frozenset[Digest] | None = None
        try:
            for repository in plan.repositories:
                try:
                    if is_base_repository(repository) and bases is None:  # bases come last
                        bases = await find_bases_step(plan, ports)
                    async with _alone(repository, ports):
                        done[repository] = await apply_step(plan, repository, in_use, bases or (), ports)
                except SupplyChainError as error:
                    done[repository] = await run_in_thread(list_unfinished_entries, plan, repository, error, journal)
        finally:  # a cancelled run first finishes the step that it has begun
            entries = (
                done[each] if each in done else list_completed_entries(plan, each, journal)
                for each in plan.repositories
            )
            applied = Applied(plan=plan.digest, entries=tuple(chain.from_iterable(entries)))
            await _publish(applied, plan)
    applied.require_finished()
    if unknown:
        raise join_invalid_errors(
            unknown, "It is unknown what is in use, so nothing was removed, archived or newly blocked"
        )
    return applied


async def _publish(applied: Applied, plan: Plan) -> None:
    await acreate_table_artifact(
        key="lifecycle-applied", table=applied_rows(applied), description=f"By {plan.rules}: {applied}"
    )


@asynccontextmanager
async def _alone(repository: str, ports: LifecyclePorts) -> AsyncIterator[None]:
    """Hold every lock under which an image of the repository is admitted or deployed; bases are never deployed.

    Raises `LockBusy` if a lock stays taken.
    """
    application = parse_application_name(repository)
    names = [lock_name(LockKind.CURATE, application)]
    if not is_base_repository(repository):
        places = ports.workbench.environment_documents().names
        names += [lock_name(LockKind.DEPLOY, place, application) for place in places]
    async with AsyncExitStack() as locks:
        for name in names:
            await locks.enter_async_context(run_lock(name))
        yield


@flow(name="lifecycle-plan", flow_run_name="lifecycle-plan by {rules}")
async def plan_only(rules: str = "nightly") -> Plan:
    """Make a plan by the rules; change nothing.

    Args:
        rules: The name of a document in deployments/lifecycle.
    """
    return await plan_step(rules, await LifecyclePorts.aload())


@flow(name="lifecycle-apply", flow_run_name="lifecycle-apply")
async def apply_only(path: str, by: str, reason: str, digest: str | None = None) -> Applied:
    """Apply a plan that a person has read. If it is above its limits, sign the approval first.

    Args:
        path: The file of the plan, which `cscm lifecycle plan -o` wrote.
        by: The name of the person who decides.
        reason: The reason.
        digest: The digest of the plan that was read. If the file holds another plan by now, nothing is applied.
    """
    plan = read_plan(Path(path))
    if digest not in (None, plan.digest):
        raise DeclarationInvalid(f"{path} changed after it was shown.\nRead it, and apply it again.")
    ports = await LifecyclePorts.aload()
    plan.hold_to(ports.workbench.rules(plan.rules))
    if plan.exceeded_limits:
        await sign_plan_answer_step(plan.digest, True, by, reason, ports)
    return await _apply(plan, ports)
