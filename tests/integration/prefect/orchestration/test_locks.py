"""Locks on Prefect's server: their names, mutual exclusion, and recovery from runs that ended without release."""

import asyncio
from contextlib import contextmanager
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from orchestration import locks
from orchestration.locks import find_abandoned_locks, lock_name, next_run_lock, parse_lock_name, run_lock
from orchestration.steps import make_run_mark
from supply_chain.errors import LockBusy


@pytest.fixture
def name(machine):
    """A lock name that no other test uses."""
    return f"trial {uuid4().hex[:8]}"


@contextmanager
def another_run():
    """Act as another run, which holds none of the locks of this one."""
    token = locks._held.set(frozenset())
    try:
        yield
    finally:
        locks._held.reset(token)


@pytest.fixture
def gives_up(monkeypatch):
    """Return a context manager in which another run waits briefly for a held lock and times out."""

    @contextmanager
    def soon(message=None):
        with monkeypatch.context() as patch, another_run(), pytest.raises(LockBusy, match=message):
            patch.setattr(locks, "WAIT", 0.5)
            yield

    return soon


@pytest.fixture
def run(monkeypatch):
    """Return a function that takes a lock as a named run and returns the abandoned runs before it."""

    async def one(name, who, error=None):
        monkeypatch.setattr(locks, "make_run_mark", lambda: who)
        try:
            async with run_lock(name) as before:
                if error:
                    raise error
        except ValueError:
            assert error
        return before

    return one


async def taken(name):
    async with get_client() as client:
        return (await client.read_global_concurrency_limit_by_name(name)).active_slots


def file_of(name):
    return get_current_settings().home / "locks" / name


async def test_lock_excludes_other_run_of_same_name_only(name):
    """A lock of another name is free meanwhile."""
    order = []

    async def waits():
        with another_run():
            async with run_lock(name):
                order.append("second")

    async with run_lock(name):
        second = asyncio.create_task(waits())
        async with run_lock(f"{name} other"):
            order.append("other")
        await asyncio.sleep(3 * locks.POLL)
        order.append("first")
    await second

    assert order == ["other", "first", "second"]


async def test_lock_is_reentrant_within_run(name, gives_up):
    """A flow in the same run would otherwise wait for itself; the outer flow still holds the lock afterwards."""

    async def within():
        return await taken(name)

    async with run_lock(name):
        assert await takes(name, within) == 1
        with gives_up():
            async with run_lock(name):
                raise AssertionError("two hold the lock")
    assert await taken(name) == 0
    async with run_lock(name):
        assert await taken(name) == 1


async def test_waiting_for_lock_times_out(name, gives_up):
    """The holder is not disturbed, and the waiting run is not reported as abandoned."""
    async with run_lock(name):
        with gives_up(f"Another run held the lock {name!r}"):
            async with run_lock(name):
                raise AssertionError("two hold the lock")

        assert await taken(name) == 1
    async with run_lock(name) as before:
        assert before == ()


async def test_lock_excludes_run_on_other_machine(name, gives_up, machine):
    """Two machines share no file, so the concurrency limit of Prefect excludes them."""
    async with run_lock(name):
        with machine("another"), gives_up():
            async with run_lock(name):
                raise AssertionError("two hold the lock")
    with machine("another"):
        async with run_lock(name):
            assert await taken(name) == 1
    assert await taken(name) == 0


async def test_two_machines_take_a_lock_for_the_first_time(name, machine, monkeypatch):
    """Both find that it does not exist, and one of them creates it first."""
    async with run_lock(name):
        pass

    async def read(*_):
        raise ObjectNotFound(Exception("not yet"))

    with machine("another"), monkeypatch.context() as patch:
        patch.setattr(PrefectClient, "read_global_concurrency_limit_by_name", read)
        async with run_lock(name):
            patch.undo()
            assert await taken(name) == 1


async def test_lock_reports_failed_runs_until_one_succeeds(name, run):
    """The next run gets all their names in order, so that it can clean up after them."""
    reported = [
        await run(name, "one", ValueError("it fails")),
        await run(name, "two", ValueError("it fails")),
        await run(name, "three"),
        await run(name, "four"),
    ]

    assert reported == [(), ("one",), ("one", "two"), ()]


async def test_lock_reports_failed_runs_and_one_that_timed_out(name, run, gives_up, machine):
    """A run may be killed at any moment, and those before it are not forgotten."""
    await run(name, "one", ValueError("it fails"))
    with machine("another"):
        async with run_lock(name):
            with machine("this"), gives_up():
                await run(name, "two")

    assert await run(name, "three") == ("one", "two")


async def test_lock_remembers_limited_number_of_failed_runs(name, run, monkeypatch):
    """An application that never builds must not fill the disk."""
    monkeypatch.setattr(locks, "REMEMBERED", 2)
    for who in ("one", "two", "three"):
        await run(name, who, ValueError("it fails"))

    assert await run(name, "four") == ("two", "three")


@pytest.mark.parametrize("content", ["", '[{"run": "dea', "[]", "rubbish", '[{"run": 1}]'])
async def test_lock_with_invalid_file_reports_no_run(name, run, content):
    """The machine may crash during a write; the lock can be taken all the same."""
    file_of(name).parent.mkdir(parents=True)
    file_of(name).write_text(content)

    assert await run(name, "one") == ()


@flow(name="takes a lock", validate_parameters=False)
async def takes(name, during):
    async with run_lock(name):
        return await during()


async def test_lease_of_dead_run_is_released_at_once(name, machine, monkeypatch):
    """Its file names the lease; a copy of the file that nobody has locked simulates the death."""
    monkeypatch.setattr(locks, "make_run_mark", lambda: "dead")
    monkeypatch.setattr(locks, "WAIT", locks.LEASE / 3)

    async def dies():
        written = file_of(name).read_bytes()
        with machine("after it"), another_run():
            file_of(name).parent.mkdir(parents=True)
            file_of(name).write_bytes(written)
            async with run_lock(name) as before:
                return before, await taken(name)

    assert await takes(name, dies) == (("dead",), 1)


async def test_next_run_lock_lets_one_run_work_and_one_wait(name):
    """A third run is not needed, because the waiting one covers its work."""
    done, works, stay = [], asyncio.Event(), asyncio.Event()

    async def one(who):
        with another_run():
            async with next_run_lock(name) as is_first:
                done.append((who, is_first))
                works.set()
                if is_first:
                    await stay.wait()

    first = asyncio.create_task(one("first"))
    await works.wait()
    second = asyncio.create_task(one("second"))
    await asyncio.sleep(0.5)
    for _ in range(3):
        await one("more")
    assert done == [("first", True), *[("more", False)] * 3]

    stay.set()
    await asyncio.gather(first, second)
    assert done[-1] == ("second", True)
    await one("later")
    assert done[-1] == ("later", True)


async def test_lock_reports_run_by_its_invocation(name):
    """The labels of the containers and images of a run have the same value."""

    class Failed(Exception):
        pass

    async def fails():
        raise Failed(make_run_mark())

    with pytest.raises(Failed) as error:
        await takes(name, fails)

    async with run_lock(name) as before:
        assert before == (str(error.value),) != ("alone",)


@pytest.mark.parametrize(
    "about", [("deploy", "staging", "hello"), ("deploy", "staging", "team/hello"), ("curate", "x")]
)
def test_lock_name_is_reversible_and_has_no_slash(about):
    """Prefect allows no slash in the name of a limit."""
    name = lock_name(*about)

    assert "/" not in name
    assert parse_lock_name(name) == about


async def test_abandoned_locks_does_not_count_as_waiting_run(name, run, monkeypatch):
    """A push at that moment would otherwise leave its image to a run that does not exist."""
    await run(name, "one", ValueError("it fails"))
    async with next_run_lock(f"{name} other"):
        pass
    opened, real = [], locks._open

    def opens(path):
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(locks, "_open", opens)

    assert find_abandoned_locks() == (name,)
    assert opened == [name, f"{name} other"]
