"""Steps in threads: they end with their run and are retried only if that may help."""

import asyncio
import gc
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orchestration.steps import in_thread, is_retryable
from supply_chain.adapters.process.command import Tool, cancellation
from supply_chain.errors import (
    AccessDenied,
    Cancelled,
    CheckNotMade,
    EngineUnavailable,
    RegistryFailed,
    RegistryUnavailable,
)

SH = Tool("sh", Path("/bin/sh"), "1")


def step(note, seconds=60):
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


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def pair(a, *, b):
    return a, b


async def test_in_thread_passes_arguments_result_and_error():
    """The step behaves like a direct call."""
    assert await in_thread(pair, 1, b=2) == (1, 2)
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_steps_run_in_parallel():
    """Two steps that wait for each other both finish."""
    both = threading.Barrier(2, timeout=60)

    assert sorted(await asyncio.gather(in_thread(both.wait), in_thread(both.wait))) == [0, 1]


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_step_ends_its_commands_and_is_awaited(tmp_path, times, caplog):
    """However often it is cancelled, no process, thread or half-cleaned directory remains."""
    note = tmp_path / "pid"
    run = asyncio.create_task(in_thread(step, note))
    pid = await started(note)

    for _ in range(times):
        run.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await run

    assert note.with_suffix(".tidied").exists()
    assert gone(pid)
    del run
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_timeout_of_run_ends_step(tmp_path):
    """A timeout works like a cancellation."""
    note = tmp_path / "pid"

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await in_thread(step, note)

    assert gone(await started(note))


async def test_cancelled_step_does_not_end_another(tmp_path):
    """Each step has its own cancellation."""
    first, second = tmp_path / "first", tmp_path / "second"
    cancelled, other = (asyncio.create_task(in_thread(step, n, s)) for n, s in ((first, 60), (second, 0.5)))
    await started(first)
    await started(second)

    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await other

    assert not cancellation().cancelled


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
        (CheckNotMade("x\ny"), False),
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
