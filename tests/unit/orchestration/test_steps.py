"""Steps in threads: they end with their run and are retried only if that may help."""

import asyncio
import gc
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.cache_policies import NO_CACHE, RUN_ID
from prefect.runtime import task_run

from orchestration.steps import is_retryable, run_in_thread, step, wait_for_all
from supply_chain.adapters.process.cancellation import get_current_cancellation
from supply_chain.adapters.process.command import Tool
from supply_chain.errors import (
    AccessDenied,
    Cancelled,
    CheckIncomplete,
    EngineUnavailable,
    RegistryFailed,
    RegistryUnavailable,
)
from tests.support.processes import runs

SH = Tool("sh", Path("/bin/sh"), "1")


def sleep(note, seconds=60):
    """Run a command that starts another process, and take some time to clean up."""
    try:
        SH.run("-c", f"sleep {seconds} & echo $! > {note}.tmp; mv {note}.tmp {note}; wait", timeout=60)
    finally:
        time.sleep(0.2)
        note.with_suffix(".tidied").touch()


async def started(note):
    for _ in range(500):
        if note.exists():
            return int(note.read_text())
        await asyncio.sleep(0.01)
    raise AssertionError("the step did not start")


def pair(a, *, b):
    return a, b


async def test_in_thread_passes_arguments_result_and_error():
    """The step behaves like a direct call."""
    assert await run_in_thread(pair, 1, b=2) == (1, 2)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0)


async def test_steps_run_in_parallel():
    """Two steps that wait for each other both finish."""
    both = threading.Barrier(2, timeout=60)

    assert sorted(await asyncio.gather(run_in_thread(both.wait), run_in_thread(both.wait))) == [0, 1]


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_step_ends_its_commands_and_is_awaited(tmp_path, times, caplog):
    """However often it is cancelled, no process, thread or half-cleaned directory remains."""
    note = tmp_path / "pid"
    run = asyncio.create_task(run_in_thread(sleep, note))
    pid = await started(note)

    for _ in range(times):
        run.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await run

    assert note.with_suffix(".tidied").exists()
    assert not runs(pid)
    del run
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_timeout_of_run_ends_step(tmp_path):
    """A timeout works like a cancellation."""
    note = tmp_path / "pid"

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await run_in_thread(sleep, note)

    assert not runs(await started(note))


async def test_cancelled_step_does_not_end_another(tmp_path):
    """Each step has its own cancellation."""
    first, second = tmp_path / "first", tmp_path / "second"
    cancelled, other = (asyncio.create_task(run_in_thread(sleep, n, s)) for n, s in ((first, 60), (second, 0.5)))
    await started(first)
    await started(second)

    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await other

    assert not get_current_cancellation().cancelled


class State:
    def __init__(self, result):
        self.result = result

    async def aresult(self, raise_on_failure):
        assert not raise_on_failure
        return self.result


@pytest.mark.parametrize(
    ("result", "again"),
    [
        (RegistryUnavailable("x\ny"), True),
        (EngineUnavailable("x\ny"), True),
        (RegistryFailed("x\ny"), False),
        (AccessDenied("x\ny"), False),
        (CheckIncomplete("x\ny"), False),
        (Cancelled("x\ny"), False),
        (ValueError("a mistake of ours"), False),
        (ConnectionError("nobody's"), False),
        (None, False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_only_temporary_errors_are_retried(result, again):
    """The error class decides."""
    unused: Any = None
    state: Any = State(result)

    assert await is_retryable(unused, unused, state) is again


@step("add", run_name="add {b}", tags=["sums"])
def add_step(a, b):
    """Return the sum, and the thread that made it."""
    assert threading.current_thread() is not threading.main_thread()
    return a[0] + b, task_run.name


@step("wait", retry=False)
async def wait_step(a):
    """Return a part of the argument, read in the loop of the flow."""
    assert asyncio.get_running_loop()
    return a[0]


def test_step_is_task_with_retries_and_without_cache():
    """A step that calls nothing may do without retries; options of Prefect are passed on."""
    assert (add_step.name, add_step.tags, add_step.retries, add_step.cache_policy) == ("add", {"sums"}, 3, NO_CACHE)
    assert (wait_step.task_run_name, wait_step.retries, wait_step.cache_policy) == ("wait", 0, NO_CACHE)
    assert add_step.retry_condition_fn is is_retryable
    cached: Any = step("keep", cache_policy=RUN_ID, persist_result=True)(add_step.fn)
    assert cached.cache_policy == RUN_ID


async def test_wait_for_all_returns_ordered_results_or_first_error():
    """What fails does not end the rest."""
    ended = []

    async def end(name, seconds, error=None):
        await asyncio.sleep(seconds)
        ended.append(name)
        if error:
            raise error
        return name

    assert await wait_for_all(end("slow", 0.02), end("fast", 0)) == ("slow", "fast")
    assert await wait_for_all() == ()
    ended.clear()
    with pytest.raises(AccessDenied):
        await wait_for_all(
            end("slow", 0.04), end("first", 0.02, AccessDenied("a\nb")), end("second", 0, CheckIncomplete("c\nd"))
        )
    assert ended == ["second", "first", "slow"]
