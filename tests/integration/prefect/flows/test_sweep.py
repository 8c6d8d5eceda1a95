"""sweep: cleans up after killed runs, and leaves running ones alone."""

from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from httpx import ReadTimeout
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from blocks.development_ports import DevelopmentPorts
from flows.sweep import sweep
from orchestration import locks
from orchestration.locks import HOLDERS, Holder, run_lock
from supply_chain import scratch
from supply_chain.errors import ComponentFailed, EngineUnavailable


@pytest.fixture
def swept(machine, monkeypatch):
    """Record the applications and runs that are removed from the engine."""
    found = []
    ports = SimpleNamespace(remove_traces=lambda application, runs: found.append((application, runs)))
    monkeypatch.setattr(DevelopmentPorts, "aload", AsyncMock(return_value=ports))
    monkeypatch.setattr(scratch, "sweep", tuple)
    return found


async def killed(name):
    """Leave the lease and the file of a run that was killed while it held the lock."""
    async with get_client() as client:
        await client.upsert_global_concurrency_limit_by_name(name=name, limit=1)
        answer = await client._client.post(
            "/v2/concurrency_limits/increment-with-lease", json={"names": [name], "slots": 1, "lease_duration": 60}
        )
    lease = answer.json()["lease_id"]
    directory = get_current_settings().home / "locks"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(HOLDERS.dump_json((Holder(run="dead", lease=lease),)))


async def taken(name):
    async with get_client() as client:
        return (await client.read_global_concurrency_limit_by_name(name)).active_slots


async def test_sweep_cleans_up_once_after_killed_run(swept):
    """No next run of the application is needed."""
    application = f"app-{uuid4().hex[:6]}"
    await killed(f"build {application}")
    await killed(f"deploy staging {application}")
    assert await taken(f"build {application}") == 1

    assert await sweep() == (f"build {application}", f"deploy staging {application}")

    assert swept == [(application, ("dead",))]
    assert await taken(f"build {application}") == await taken(f"deploy staging {application}") == 0
    assert await sweep() == () and len(swept) == 1


async def test_sweep_releases_lock_without_application(swept):
    """The lock of a killed rescan is only a word. It must not keep the sweep from the locks after it."""
    later = f"s-{uuid4().hex[:6]} app"
    await killed("rescan")
    await killed(later)

    assert await sweep() == ("rescan", later)

    assert swept == [] and await taken("rescan") == 0


FAILURES = [EngineUnavailable("no answer\nstart it"), TimeoutError("no answer"), ReadTimeout("no answer")]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda each: type(each).__name__)
async def test_failed_cleanup_of_one_application_does_not_stop_others(swept, monkeypatch, failure):
    """The run fails with the names of the rest, and the next sweep retries them."""
    names = [f"app-{letter}-{uuid4().hex[:6]}" for letter in "abc"]
    for name in names:
        await killed(f"build {name}")

    def remove(application, _):
        if application != names[1]:
            raise failure
        swept.append(application)

    ports = SimpleNamespace(remove_traces=remove)
    monkeypatch.setattr(DevelopmentPorts, "aload", AsyncMock(return_value=ports))
    with pytest.raises(ComponentFailed) as caught:
        await sweep()

    assert swept == [names[1]]
    kind = type(failure).__name__
    assert all(f"build {name}: {kind}: no answer" in str(caught.value) for name in names[::2])
    ports.remove_traces = lambda application, _: swept.append(application)
    assert await sweep() == (f"build {names[0]}", f"build {names[2]}")


async def test_sweep_leaves_running_run_alone(swept):
    """It holds the lock."""
    name = f"build app-{uuid4().hex[:6]}"
    await killed(name)

    async with run_lock(name):
        token = locks._held.set(frozenset())
        assert await sweep() == () and swept == []
        locks._held.reset(token)
