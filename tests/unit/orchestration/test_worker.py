"""The worker asks for runs when some are due, and from time to time."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from httpx import ConnectError
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from orchestration import worker
from orchestration.worker import LONGEST_PAUSE, ProjectWorker


class Server:
    """Counts the runs that are due, and notes how often a worker asked for the runs themselves."""

    def __init__(self, due=0):
        self.due, self.asked, self.filters, self.woken = due, 0, [], []
        self.first: frozenset[Any] | Exception = frozenset()

    async def count_flow_runs(self, **filters):
        self.filters.append(filters)
        return self.due

    async def assign(self, client, pool, until, *, wake):
        assert (client, pool) == (self, "laptop") and until > datetime.now(UTC)
        if isinstance(self.first, Exception):
            raise self.first
        self.woken.append(wake)
        return self.first

    async def submit(self):
        self.asked += 1
        return ["a run"] * self.due


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(worker, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(ProcessWorker, "get_and_submit_flow_runs", lambda _: server.submit())
    monkeypatch.setattr(ProjectWorker, "client", server)
    monkeypatch.setattr(worker, "assign_places", server.assign)
    return server


async def test_worker_polls_no_runs_while_none_is_due(server, clock):
    """The first time, it asks without counting, so that the server knows of the worker at once."""
    polling = ProjectWorker(work_pool_name="laptop")

    for _ in range(5):
        assert await polling.get_and_submit_flow_runs() == []

    assert server.asked == 1 and len(server.filters) == 4


async def test_worker_starts_runs_that_are_due(server, clock):
    """Only scheduled runs of its own pool count, including those that start soon."""
    polling = ProjectWorker(work_pool_name="laptop")
    await polling.get_and_submit_flow_runs()
    server.due = 1

    assert await polling.get_and_submit_flow_runs() == ["a run"]

    (filters,) = server.filters
    due, pool = filters["flow_run_filter"], filters["work_pool_filter"]
    assert due.state.type.any_ == [StateType.SCHEDULED] and pool.name.any_ == ["laptop"]
    ahead = due.next_scheduled_start_time.before_ - datetime.now(UTC)
    assert timedelta(seconds=5) < ahead <= timedelta(seconds=10)


async def test_worker_polls_after_longest_pause_without_due_run(server, clock):
    """The server would otherwise take its queues for queues without a worker."""
    polling = ProjectWorker(work_pool_name="laptop")
    await polling.get_and_submit_flow_runs()

    for seconds in (1, LONGEST_PAUSE - 1, LONGEST_PAUSE, LONGEST_PAUSE + 1):
        clock.now = 1000.0 + seconds
        await polling.get_and_submit_flow_runs()

    assert server.asked == 2 and len(server.filters) == 3


async def test_queued_pushes_are_assigned_after_a_run_ended(server, clock, monkeypatch):
    """One of them may have waited for its place. Each look reads all of them."""
    monkeypatch.setattr(ProcessWorker, "run", lambda *_: server.submit())
    polling = ProjectWorker(work_pool_name="laptop")
    server.due = 1
    for _ in range(2):
        await polling.get_and_submit_flow_runs()

    await polling.run("a run", "its configuration")
    await polling.get_and_submit_flow_runs()

    assert server.woken == [True, False, True]


@pytest.mark.parametrize("trouble", [ConnectError("no answer"), ObjectNotFound(OSError("gone"))], ids=repr)
async def test_other_runs_start_if_assigning_push_places_fails(server, clock, monkeypatch, trouble):
    """Of pushes, only those that were the first of their places at the last answer."""
    tags = (["chain", "by-event"], ["chain", "by-event", "x"], ["chain"])
    runs = [SimpleNamespace(flow_run=SimpleNamespace(id=number, tags=each)) for number, each in enumerate(tags)]
    monkeypatch.setattr(ProcessWorker, "_get_scheduled_flow_runs", AsyncMock(return_value=runs))
    polling = ProjectWorker(work_pool_name="laptop")
    server.first = frozenset([1])
    await polling.get_and_submit_flow_runs()
    server.first, server.due = trouble, 1

    assert await polling.get_and_submit_flow_runs() == ["a run"]
    assert await polling._get_scheduled_flow_runs() == runs[1:]
