"""How steps run: in a thread that ends with its run, retried only where that may help."""

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
    """What marks everything that this run makes in the engine."""
    return (flow_run.id or "alone")[:8]


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a blocking step in a thread. When the run is cancelled, its commands end and the thread is waited for.

    The thread is a future and no task: a run that is terminated cancels all tasks of its loop, also
    one that is shielded, and may do so more than once.
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
        work.cancelled() or work.exception()  # the run's own end is told, not that of its step
        raise


@asynccontextmanager
async def beside(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[None]:
    """Run a blocking step in a thread while the block runs; the block ends when both have.

    Where both fail, the block's own error is the one told.
    """
    work = asyncio.ensure_future(in_thread(function, *args, **kwargs))
    try:
        yield
    except BaseException as error:
        try:
            await work
        except Exception as second:  # noqa: BLE001 - told with the first
            error.add_note(f"What ran beside failed too: {second}")
        raise
    await work


def whole(value: R) -> R:
    """A task's argument into which Prefect does not look for results of other tasks: that takes long in a large one."""
    return cast(R, quote(value))


async def worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether the same step may succeed next time; the error itself knows."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, SupplyChainError) and error.retryable


RETRYING: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": worth_retrying,
    "cache_policy": NO_CACHE,
}
"""What a step that asks a registry, AWS or the engine has in common."""
