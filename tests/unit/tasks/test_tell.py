"""Owners and operators are told once a day of the same, through the block that the workbench names."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.variables import Variable

import tasks.tell as module
from tasks.tell import tell


@pytest.fixture
async def told(machine, monkeypatch, make):
    """What was told, through which block; and the clock."""
    heard, clock = [], [make.noon]

    async def load(name):
        async def notify(body, subject):
            heard.append((name, subject, body))

        return SimpleNamespace(notify=notify)

    monkeypatch.setattr(module.Block, "aload", load)
    monkeypatch.setattr(module, "now", lambda: clock[0])
    monkeypatch.setattr(module, "TOLD", f"told_{uuid4().hex}")  # the server is everybody's
    return SimpleNamespace(heard=heard, clock=clock, workbench=SimpleNamespace(notify="kind/name"))


async def test_the_same_is_told_once_a_day(told):
    """And after that again; what has no name is told each time."""
    for _ in range(2):
        await tell("drift", "it differs", told.workbench, once="a")
    await tell("drift", "another", told.workbench, once="b")
    assert told.heard == [("kind/name", "drift", "it differs"), ("kind/name", "drift", "another")]
    told.clock[0] += timedelta(days=1, seconds=1)
    await tell("drift", "it differs", told.workbench, once="a")
    for _ in range(2):
        await tell("rescan", "worse", told.workbench)
    assert [body for _, _, body in told.heard[2:]] == ["it differs", "worse", "worse"]


async def test_what_was_told_long_ago_is_not_remembered(told):
    """The list does not grow for good."""
    for number in range(3):
        await tell("s", "b", told.workbench, once=str(number))
        told.clock[0] += timedelta(hours=20)
    assert set(await Variable.aget(module.TOLD)) == {"1", "2"}
