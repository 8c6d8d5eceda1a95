"""Declares steps of flows. They run in threads that end with their run, and are retried only where that can help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run, task_run
from prefect.tasks import Task, exponential_backoff
from prefect.utilities.annotations import quote

from supply_chain.adapters.process.cancellation import Cancellation, current
from supply_chain.errors import SupplyChainError

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def make_run_mark() -> str:
    """Return the mark of everything that this run makes in the engine."""
    return (flow_run.id or "alone")[:8]


async def run_in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
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
async def run_alongside(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[None]:
    """Run a blocking step in a thread while the block runs; leave the block when both have ended.

    If both fail, the block's own error is raised.
    """
    work = asyncio.ensure_future(run_in_thread(function, *args, **kwargs))
    try:
        yield
    except BaseException as error:
        try:
            await work
        except Exception as second:  # noqa: BLE001 - added to the first
            error.add_note(f"A concurrent task failed too: {second}")
        raise
    await work


async def is_retryable(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether the step may succeed next time, as the error itself says."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, SupplyChainError) and error.retryable


@overload
async def wait_for_all(first: Awaitable[A], second: Awaitable[B], /) -> tuple[A, B]: ...
@overload
async def wait_for_all(first: Awaitable[A], second: Awaitable[B], third: Awaitable[C], /) -> tuple[A, B, C]: ...
@overload
async def wait_for_all(*awaitables: Awaitable[A]) -> tuple[A, ...]: ...
async def wait_for_all(*awaitables: Awaitable[Any]) -> tuple[Any, ...]:
    """Return the results once all have ended; then raise the first error, if any: none ends the others."""
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return tuple(results)


RETRIES = 3
RETRYING: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_retryable,
}
"""Options of every step that calls a registry, AWS or the engine."""


@contextmanager
def continue_after_error(record: Callable[[SupplyChainError], object]) -> Iterator[None]:
    """Give an error to `record` and continue after the block; raise it while the step that runs is tried again."""
    try:
        yield
    except SupplyChainError as error:
        if error.retryable and task_run.run_count <= RETRIES:
            raise
        record(error)


class Step(Task[P, Coroutine[Any, Any, R]]):
    """A task whose arguments Prefect does not search for results of other tasks, which can be slow."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """Run the step in the calling flow."""
        quoted = {name: quote(value) for name, value in kwargs.items()}
        return super().__call__(*map(quote, args), **quoted)  # type: ignore[arg-type]


class StepDecorator(Protocol):
    """Makes a step of a function, which may block or be asynchronous."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


def step(name: str, *, run_name: str | None = None, retry: bool = True, **options: Any) -> StepDecorator:
    """Declare a function as a step of the flows: a task that a flow awaits.

    A function that blocks runs in a thread, see `run_in_thread`. `run_name` is the name of each run, with the
    function's arguments in braces. The step is retried as `RETRYING` says, unless `retry` is false, and never cached,
    unless the `options` of Prefect say otherwise.
    """

    def declare(function: Callable[P, Any]) -> Step[P, Any]:
        @wraps(function)
        async def in_own_thread(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await run_in_thread(function, *args, **kwargs)

        body = function if iscoroutinefunction(function) else in_own_thread
        settings = {"cache_policy": NO_CACHE, **(RETRYING if retry else {}), **options}
        return Step(body, name=name, task_run_name=run_name or name, **settings)

    return declare
