"""The arguments and names of steps in a run."""

import asyncio
import threading

from prefect import flow
from prefect.runtime import task_run

from orchestration.steps import step


class Large(list[int]):
    """A value that takes long to search."""

    def __iter__(self):
        raise AssertionError("Prefect searched the argument")


@step("add", run_name="add {b}")
def add_step(a, b):
    """Return the sum and the name of the run."""
    assert threading.current_thread() is not threading.main_thread()
    return a[0] + b, task_run.name


@step("wait", retry=False)
async def wait_step(a):
    """Return a part of the argument, read in the loop of the flow."""
    assert asyncio.get_running_loop()
    return a[0]


@flow
async def steps():
    one = Large([1])
    assert await wait_step(one) == 1
    return [await add_step(one, 2), await add_step(a=one, b=3)]


async def test_step_receives_arguments_and_names_its_task_run(machine):
    """Prefect otherwise visits every part of every argument, to find results of other tasks."""
    assert await steps() == [(3, "add 2"), (4, "add 3")]
