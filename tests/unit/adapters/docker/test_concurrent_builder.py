"""concurrent_builder: does other work while it builds."""

import threading
from typing import Any

import pytest

from supply_chain.adapters.docker.concurrent_builder import ConcurrentBuilder
from supply_chain.adapters.process.cancellation import get_current_cancellation
from supply_chain.errors import BuildFailed, Cancelled, CheckIncomplete

IMAGE: Any = "image"


class Builder:
    def __init__(self, build):
        self.build = build

    def versions(self):
        return {"buildx": "1"}


def test_build_and_work_run_at_the_same_time():
    """Two that wait for each other both finish, and the build's results are returned after the work."""
    together, ended = threading.Barrier(2, timeout=5), []

    def build(*orders):
        together.wait()
        return orders

    def work():
        together.wait()
        ended.append("work")

    builder = ConcurrentBuilder(Builder(build), work)

    assert builder.build(IMAGE, IMAGE) == (IMAGE, IMAGE)
    assert ended == ["work"] and builder.versions() == {"buildx": "1"}


def test_error_of_work_does_not_fail_the_build():
    """The step that needs the result does the work again and meets the error itself."""

    def work():
        raise CheckIncomplete("no answer\ntry again")

    assert ConcurrentBuilder(Builder(lambda *orders: orders), work).build(IMAGE) == (IMAGE,)


def test_failed_build_ends_the_work():
    """Nobody waits for checks of a source that was not built."""
    started, ends = threading.Event(), []

    def build(*_):
        assert started.wait(5)
        raise BuildFailed("a step failed\nlook at it")

    def work():
        started.set()
        try:
            get_current_cancellation().wait(20)
        except Cancelled:
            ends.append("cancelled")

    with pytest.raises(BuildFailed):
        ConcurrentBuilder(Builder(build), work).build(IMAGE)
    assert ends == ["cancelled"]
