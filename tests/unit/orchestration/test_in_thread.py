"""Steps in threads: a cancelled step ends its commands and is awaited."""

import asyncio
import time

import pytest

from orchestration.steps import run_alongside, run_in_thread
from supply_chain.adapters.process.cancellation import get_current_cancellation
from supply_chain.errors import Cancelled


async def test_in_thread_returns_result_or_raises_error():
    """The step behaves like a direct call."""

    def broken() -> None:
        raise ValueError("x")

    assert await run_in_thread(lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(ValueError, match="x"):
        await run_in_thread(broken)


def test_cancelled_step_finishes_its_cleanup():
    """A terminated run cancels every task of its loop, possibly twice."""
    events: list[str] = []

    def step() -> None:
        try:
            get_current_cancellation().wait(30)
        except Cancelled:
            time.sleep(0.3)
            events.append("tidied")
            raise

    async def run() -> None:
        try:
            await run_in_thread(step)
        finally:
            events.append("ended")

    async def terminated() -> None:
        running = asyncio.ensure_future(run())
        for _ in range(2):
            await asyncio.sleep(0.1)
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(terminated())

    assert events == ["tidied", "ended"]


async def test_alongside_waits_for_parallel_function():
    """An error of the parallel function is raised if the block has none."""
    events: list[str] = []

    def slow() -> None:
        time.sleep(0.2)
        events.append("beside")

    async with run_alongside(slow):
        events.append("block")
    assert events == ["block", "beside"]

    def broken() -> None:
        raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"):
        async with run_alongside(broken):
            pass


@pytest.mark.parametrize("own", [KeyError("the block's"), asyncio.CancelledError()], ids=repr)
async def test_error_of_block_precedes_error_of_parallel_function(own):
    """A cancelled run must not be reported as failed."""

    def broken() -> None:
        raise ValueError("beside")

    with pytest.raises(type(own)):
        async with run_alongside(broken):
            raise own
