"""Flow `chain`: run the flows of the three tiers one after the other."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

import fastapi.encoders  # noqa: F401 - otherwise, Prefect imports these during a run
import prefect.task_engine  # noqa: F401
from prefect import flow, get_run_logger
from prefect.exceptions import Pause

from blocks import Workbench
from flows.build import build
from flows.curate import curate
from flows.deploy import deploy
from orchestration.events import mark_as_chain
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.promotion_freeze import find_active_freeze
from orchestration.push_places import name_place_lock
from orchestration.run_names import name_run_by_path
from orchestration.run_report import RunReporter, report_run
from orchestration.run_states import UNNEEDED, complete_as, complete_frozen, complete_refused
from orchestration.source import open_snapshot, read_application
from orchestration.source_pushes import explain_replaced, find_later_push
from orchestration.steps import run_alongside
from orchestration.waiting_runs import SOON, can_wait, release_slot
from supply_chain.errors import LockBusy, SettingInvalid
from supply_chain.execution.deployment import Deployment
from supply_chain.model.declaration import Base, Service
from supply_chain.model.image import ReleasedImage
from supply_chain.policy.outcome import Refused
from supply_chain.promotion.freeze import PromotionFreeze
from supply_chain.text import join_lines, sanitize_text

gc.freeze()  # objects made by imports are never freed: no garbage collection during a run looks at them


@flow(name="chain", flow_run_name=name_run_by_path)
async def chain(
    path: str,
    revision: str | None = None,
    environment: str | None = None,
    force: bool = False,
    by_event: bool = False,
    ref: str = "",
    pushed: str = "",
    team: str = "",
) -> ReleasedImage | Deployment | Refused | PromotionFreeze | None:
    """Take an application from its source to a monitored container; a base image is released and not deployed.

    Args:
        path: The application's directory, with its supply-chain.yaml, on the worker's machine, such as /srv/hello.
        revision: The git commit to build. If empty, the directory's current files are built.
        environment: The environment to deploy to. If empty, the first one that the application declares.
        force: Repeat every step, even if signed evidence proves that it is done.
        by_event: Whether a push started the run. A promotion freeze then ends it before the next gate, as Frozen.
        ref: The branch or tag that was pushed, such as refs/heads/main. A later push to it replaces this one.
        pushed: The time of the push, such as 2026-11-27T12:00:00+00:00.
        team: The team that the git hook names, or the repository. Its pushes have one place in the work queue.
    """
    with mark_as_chain():
        if by_event and (later := await find_later_push(ref, pushed)):
            why = explain_replaced(later)
            get_run_logger().info("%s", why)
            return complete_as(UNNEEDED, why, None)
        async with AsyncExitStack() as stack:
            if by_event and can_wait():
                await _take_place_or_leave(stack, team or path, await read_application(Path(path), revision))
            workbench: Workbench = await Workbench.aload("workbench")
            async with (
                run_alongside(workbench.check_policies),  # takes as long as the snapshot and the check of the name
                report_run(path) as reporter,
                open_snapshot(Path(path), revision, workbench.find_excluded) as snapshot,
            ):
                _check_environment(snapshot.declaration, environment, workbench, reporter)
                # Promotions of the application wait for this lock, because this chain itself promotes what it pushes.
                async with run_lock(lock_name(LockKind.PROMOTE, snapshot.declaration.name)):
                    return await _chain(path, revision, environment, force, by_event)


async def _chain(
    path: str, revision: str | None, environment: str | None, force: bool, by_event: bool
) -> ReleasedImage | Deployment | Refused | PromotionFreeze:
    candidate = await build(path=path, revision=revision, force=force)
    if isinstance(candidate, Refused):
        return complete_refused(candidate)
    application = candidate.ref.application
    async with _step_lock(lock_name(LockKind.CURATE, application), by_event) as freeze:
        if freeze:
            return complete_frozen(freeze)
        curated = await curate(image=str(candidate.ref), force=force)
    if isinstance(curated, Refused):
        return complete_refused(curated)
    if not curated.environments:
        return curated  # a base is not deployed; other images are built on it
    environment = environment or curated.environments[0]
    async with _step_lock(lock_name(LockKind.DEPLOY, environment, application), by_event) as freeze:
        if freeze:
            return complete_frozen(freeze)
        deployment = await deploy(image=str(curated.ref), environment=environment, force=force)
    return complete_refused(deployment) if isinstance(deployment, Refused) else deployment


async def _take_place_or_leave(stack: AsyncExitStack, holder: str, application: str) -> None:
    """Take the lock of the holder's place until the stack closes; reschedule this run if that is not possible.

    A team has one place in the work queue of chains, so that its builds leave the other places to others. The
    declaration's owner does not count: whoever pushes chooses it. The worker lets pushes wait for their place; this one
    waits here if another worker, which does not see this one's runs at once, started both. A run that would wait for
    its application leaves its place too. It does not take the application's lock here: the name may belong to another
    source, and the snapshot takes time.
    """
    try:
        await stack.enter_async_context(run_lock(name_place_lock(holder), SOON))
    except LockBusy:
        raise await _leave(holder) from None
    try:
        async with run_lock(lock_name(LockKind.PROMOTE, application), SOON):
            pass
    except LockBusy:
        await stack.aclose()
        raise await _leave(application) from None


async def _leave(holder: str) -> Pause:
    return await release_slot(
        f"another run works on {sanitize_text(holder)}; this one waits without a slot in its queue"
    )


@asynccontextmanager
async def _step_lock(name: str, by_event: bool) -> AsyncIterator[PromotionFreeze | None]:
    """Wait for the lock of a step, and yield the promotion freeze that stops it, or None.

    A run that a person started takes no lock here and is not stopped by a freeze.
    """
    async with run_lock(name) if by_event else nullcontext():
        yield await find_active_freeze() if by_event else None


def _check_environment(
    declaration: Service | Base, environment: str | None, workbench: Workbench, reporter: RunReporter
) -> None:
    """Raise `SettingInvalid` if the environment does not exist, before anything is built, checked and signed for it.

    If it exists and has no place for the application, the chain goes up to the deploy gate, and notes it now.
    """
    if isinstance(declaration, Service) and (name := environment or next(iter(declaration.environments), None)):
        document = workbench.environment(name)
        try:
            document.placement(declaration.name)
        except SettingInvalid as error:
            reporter.note(join_lines(error))
