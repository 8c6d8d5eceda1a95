"""Turns on Prefect's server: how they are called, who waits for whom, and what the dead held is given back."""

import asyncio
from contextlib import contextmanager
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from orchestration import locks as turns
from orchestration.locks import abandoned_locks, lock_name, next_run_lock, parse_lock_name, run_lock


@pytest.fixture
def name(machine):
    """A turn that nobody else takes."""
    return f"trial {uuid4().hex[:8]}"


@contextmanager
def another_run():
    """One that has none of the turns of this one."""
    token = turns._held.set(frozenset())
    try:
        yield
    finally:
        turns._held.reset(token)


@pytest.fixture
def gives_up(monkeypatch):
    """A function in which another run waits for a turn that somebody else has, though not for long."""

    @contextmanager
    def soon(said=None):
        with monkeypatch.context() as patch, another_run(), pytest.raises(TimeoutError, match=said):
            patch.setattr(turns, "WAIT", 0.5)
            yield

    return soon


@pytest.fixture
def run(monkeypatch):
    """A function that has a turn as a run of that name; the runs it is told of."""

    async def one(name, who, error=None):
        monkeypatch.setattr(turns, "invocation", lambda: who)
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
    return get_current_settings().home / "turns" / name


async def test_one_waits_for_the_other_of_the_same_name(name):
    """Not for another's: that one comes and goes meanwhile."""
    said = []

    async def waits():
        with another_run():
            async with run_lock(name):
                said.append("second")

    async with run_lock(name):
        second = asyncio.create_task(waits())
        async with run_lock(f"{name} other"):
            said.append("other")
        await asyncio.sleep(3 * turns.POLL)
        said.append("first")
    await second

    assert said == ["other", "first", "second"]


async def test_what_a_run_has_it_has_in_all_that_it_does(name, gives_up):
    """A flow within it that takes the same turn would wait for itself; when that ends, the turn is still the run's."""

    async def within():
        return await taken(name)

    async with run_lock(name):
        assert await takes(name, within) == 1
        with gives_up():
            async with run_lock(name):
                raise AssertionError("two have the turn")
    assert await taken(name) == 0
    async with run_lock(name):
        assert await taken(name) == 1


async def test_who_waits_too_long_gives_up(name, gives_up):
    """The run that has the turn is not disturbed, and nobody is named for it."""
    async with run_lock(name):
        with gives_up(f"{name}: another run had the turn"):
            async with run_lock(name):
                raise AssertionError("two have the turn")

        assert await taken(name) == 1
    async with run_lock(name) as before:
        assert before == ()


async def test_a_run_on_another_machine_is_waited_for(name, gives_up, machine):
    """It is Prefect's limit that keeps the two apart, as they share no file."""
    async with run_lock(name):
        with machine("another"), gives_up():
            async with run_lock(name):
                raise AssertionError("two have the turn")
    with machine("another"):
        async with run_lock(name):
            assert await taken(name) == 1
    assert await taken(name) == 0


async def test_runs_that_did_not_end_well_are_named_until_one_does(name, run):
    """Each is told of all before it, in order; what they left is to be cleared away."""
    told = [
        await run(name, "one", ValueError("it fails")),
        await run(name, "two", ValueError("it fails")),
        await run(name, "three"),
        await run(name, "four"),
    ]

    assert told == [(), ("one",), ("one", "two"), ()]


async def test_who_never_got_its_turn_is_named_too(name, run, gives_up, machine):
    """A run may be killed at any moment, and those before it are not forgotten over it."""
    await run(name, "one", ValueError("it fails"))
    with machine("another"):
        async with run_lock(name):
            with machine("this"), gives_up():
                await run(name, "two")

    assert await run(name, "three") == ("one", "two")


async def test_only_the_last_are_remembered(name, run, monkeypatch):
    """An application that never gets built does not fill the disk."""
    monkeypatch.setattr(turns, "REMEMBERED", 2)
    for who in ("one", "two", "three"):
        await run(name, who, ValueError("it fails"))

    assert await run(name, "four") == ("two", "three")


@pytest.mark.parametrize("content", ["", '[{"run": "dea', "[]", "rubbish", '[{"run": 1}]'])
async def test_a_file_that_was_cut_off_names_nobody(name, run, content):
    """The machine may go down in the middle of writing; the turn is taken all the same."""
    file_of(name).parent.mkdir(parents=True)
    file_of(name).write_text(content)

    assert await run(name, "one") == ()


@flow(name="takes a turn", validate_parameters=False)
async def takes(name, during):
    async with run_lock(name):
        return await during()


async def test_the_lease_of_a_run_that_died_is_given_back_at_once(name, machine, monkeypatch):
    """It wrote down which. What stands for its death is a copy of its file, which nobody has locked."""
    monkeypatch.setattr(turns, "invocation", lambda: "dead")
    monkeypatch.setattr(turns, "WAIT", turns.LEASE / 3)

    async def dies():
        written = file_of(name).read_bytes()
        with machine("after it"), another_run():
            file_of(name).parent.mkdir(parents=True)
            file_of(name).write_bytes(written)
            async with run_lock(name) as before:
                return before, await taken(name)

    assert await takes(name, dies) == (("dead",), 1)


async def test_of_many_runs_one_works_and_one_waits(name):
    """What a third would look at, the one that waits looks at when it has its turn."""
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


async def test_a_run_is_named_by_what_marks_its_things(name):
    """Its containers and images carry that."""

    async def fails():
        raise ValueError(turns.invocation())

    with pytest.raises(ValueError) as error:
        await takes(name, fails)

    async with run_lock(name) as before:
        assert before == (str(error.value),) != ("alone",)


@pytest.mark.parametrize(
    "about", [("deploy", "staging", "hello"), ("deploy", "staging", "team/hello"), ("curate", "x")]
)
def test_a_name_says_what_it_is_about_and_has_no_slash(about):
    """Prefect takes none in the name of a limit."""
    name = lock_name(*about)

    assert "/" not in name
    assert parse_lock_name(name) == about


async def test_to_look_for_what_was_left_is_no_run_that_waits(name, run, monkeypatch):
    """Else a push that comes just then would leave its image to a run that is not there."""
    await run(name, "one", ValueError("it fails"))
    async with next_run_lock(f"{name} other"):
        pass
    opened, real = [], turns._opened
    monkeypatch.setattr(turns, "_opened", lambda path: (opened.append(path.name), real(path))[1])

    assert abandoned_locks() == (name,)
    assert opened == [name, f"{name} other"]
