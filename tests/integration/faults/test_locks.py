"""Locks on the laptop's Prefect: one holder at a time, and released as soon as the holder is dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cscm_laptop.home import Home
from cscm_laptop.prefect_server import locate_leases, make_prefect_api, run_environment
from cscm_laptop.profile import load_profile
from orchestration.registration import free_slots
from tests.support.command import ROOT
from tests.support.eyes import Eyes
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

TAKES = """
import asyncio, sys
from pathlib import Path
from prefect import flow
from orchestration.locks import run_lock

@flow(name="takes a turn")
async def takes(name, note, stay):
    async with run_lock(name) as before:
        note.write_text(" ".join(("had", *before)))
        while stay.exists():
            await asyncio.sleep(0.05)
        if Path(f"{stay}.fails").exists():
            raise RuntimeError("it was to fail")

asyncio.run(takes(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
"""

Take = Callable[[], tuple["subprocess.Popen[bytes]", Path]]


@pytest.fixture
def name() -> str:
    return f"trial {uuid4().hex[:8]}"


@pytest.fixture
def stay(tmp_path: Path) -> Path:
    """A file; the holder keeps the lock as long as it exists."""
    path = tmp_path / "stay"
    path.touch()
    return path


@pytest.fixture
def take(name: str, stay: Path, tmp_path: Path, home: Home) -> Iterator[Take]:
    """A function that starts a process which takes the lock and writes its dead predecessors to a file.

    The locks have a directory of their own, because the laptop's `sweep` releases those of dead runs in its own.
    """
    started: list[subprocess.Popen[bytes]] = []

    def one() -> tuple[subprocess.Popen[bytes], Path]:
        note = tmp_path / f"note{len(started)}"
        words = [sys.executable, "-c", TAKES, name, str(note), str(stay)]
        environment = {**os.environ, **run_environment(home, load_profile(ROOT)), "PREFECT_HOME": str(tmp_path)}
        process = subprocess.Popen(words, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
        started.append(process)
        return process, note

    yield one
    for process in started:
        process.kill()
        process.wait()


def test_lock_has_one_holder_and_names_killed_holders_to_next_runs(
    take: Take, stay: Path, name: str, eyes: Eyes
) -> None:
    """Nobody waits for the lease, and the next runs can clean up until one of them succeeds.

    Two runs wait for a holder: one that is killed, and one that succeeds.
    """
    killed, first = take()
    eventually(first.exists)
    failing, second = take()
    time.sleep(8)
    assert not second.exists()
    killed.kill()
    killed.wait()
    began = time.monotonic()
    eventually(second.exists)
    took = time.monotonic() - began
    Path(f"{stay}.fails").touch()
    stay.unlink()
    assert failing.wait(60) == 1
    Path(f"{stay}.fails").unlink()
    stay.touch()
    well, third = take()
    after, fourth = take()
    eventually(lambda: third.exists() or fourth.exists())
    stay.unlink()
    assert (well.wait(60), after.wait(60)) == (0, 0)

    assert took < 50, "it waited for the lease of 60 s"
    first_of_two, last = sorted((third, fourth), key=lambda note: note.stat().st_mtime_ns)
    (_, dead), (_, again, failed) = (note.read_text().split() for note in (second, first_of_two))
    assert dead == again != failed
    assert last.read_text() == "had"
    assert name not in eyes.slots()


def test_slot_without_a_lease_is_freed_at_server_start(home: Home, eyes: Eyes, name: str) -> None:
    """A process that dies before it wrote the lease leaves such a slot; a slot with a lease stays."""
    for each in (name, f"{name} held"):
        eyes.prefect.ask("v2/concurrency_limits/", {"name": each, "limit": 1})
    eyes.prefect.ask("v2/concurrency_limits/increment", {"names": [name], "slots": 1})
    held = {"names": [f"{name} held"], "slots": 1, "lease_duration": 60}
    lease = eyes.prefect.ask("v2/concurrency_limits/increment-with-lease", held)["lease_id"]

    free_slots(locate_leases(home), make_prefect_api(home, load_profile(ROOT)))

    assert {each for each in eyes.slots() if each.startswith(name)} == {f"{name} held"}
    eyes.prefect.ask("v2/concurrency_limits/decrement-with-lease", {"lease_id": lease})
    assert f"{name} held" not in eyes.slots()
