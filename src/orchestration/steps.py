"""Runs steps in a thread that ends with its run, and retries them only where that can help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.tasks import Task, exponential_backoff
from prefect.utilities.annotations import quote

from supply_chain.adapters.process.command import Cancellation, current
from supply_chain.errors import SupplyChainError

P = ParamSpec("P")
R = TypeVar("R")


def invocation() -> str:
    """Return the mark of everything that this run makes in the engine."""
    return (flow_run.id or "alone")[:8]


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a blocking step in a thread; if the run is cancelled, end its commands and wait for the thread.

    The thread is a future, not a task: a run that is terminated cancels all tasks of its loop, even shielded ones, and
    may do so more than once.
    """
    scope = Cancellation()
    token = current.set(scope)
    try:
        step = partial(copy_context().run, function, *args, **kwargs)
    finally:
        current.reset(token)
    work = asyncio.get_running_loop().run_in_executor(None, step)
    try:
        return await asyncio.shield(work)
    except BaseException:
        scope.cancel()
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        work.cancelled() or work.exception()  # raise the run's exception, not the step's
        raise


@asynccontextmanager
async def alongside(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[None]:
    """Run a blocking step in a thread while the block runs; leave the block when both have ended.

    If both fail, the block's own error is raised.
    """
    work = asyncio.ensure_future(in_thread(function, *args, **kwargs))
    try:
        yield
    except BaseException as error:
        try:
            await work
        except Exception as second:  # noqa: BLE001 - added to the first
            error.add_note(f"A concurrent task failed too: {second}")
        raise
    await work


def untracked(value: R) -> R:
    """Wrap a task's argument so that Prefect does not search it for other tasks' results, which can be slow."""
    return cast(R, quote(value))


async def is_retryable(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether the step may succeed next time, as the error itself says."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, SupplyChainError) and error.retryable


RETRYING: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_retryable,
    "cache_policy": NO_CACHE,
}
"""Options of every task that calls a registry, AWS or the engine."""
