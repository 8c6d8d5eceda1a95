"""Steps in threads: a cancelled one ends what it runs, and is waited for."""

import asyncio
import time

import pytest

from orchestration.steps import alongside, in_thread
from supply_chain.adapters.process.command import cancellation
from supply_chain.errors import Cancelled


async def test_gives_what_the_function_gives():
    """Also its error."""

    def broken() -> None:
        raise ValueError("x")

    assert await in_thread(lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(ValueError, match="x"):
        await in_thread(broken)


def test_a_cancelled_step_is_told_and_its_tidying_is_waited_for():
    """A terminated run cancels every task of its loop, perhaps twice; what the step tidies up is done all the same."""
    story: list[str] = []

    def step() -> None:
        try:
            cancellation().wait(30)
        except Cancelled:
            time.sleep(0.3)
            story.append("tidied")
            raise

    async def run() -> None:
        try:
            await in_thread(step)
        finally:
            story.append("ended")

    async def terminated() -> None:
        running = asyncio.ensure_future(run())
        for _ in range(2):
            await asyncio.sleep(0.1)
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(terminated())

    assert story == ["tidied", "ended"]


async def test_what_runs_beside_a_block_ends_with_it():
    """And its error is the block's, where the block has none."""
    story: list[str] = []

    def slow() -> None:
        time.sleep(0.2)
        story.append("beside")

    async with alongside(slow):
        story.append("block")
    assert story == ["block", "beside"]

    def broken() -> None:
        raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"):
        async with alongside(broken):
            pass


@pytest.mark.parametrize("own", [KeyError("the block's"), asyncio.CancelledError()], ids=repr)
async def test_the_blocks_own_end_is_told_first(own):
    """A run that was cancelled is not told as one that failed to tidy."""

    def broken() -> None:
        raise ValueError("beside")

    with pytest.raises(type(own)):
        async with alongside(broken):
            raise own
