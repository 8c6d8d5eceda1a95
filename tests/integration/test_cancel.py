"""Cancellation: a run ends within seconds at any step, and leaves nothing behind.

Runs are started and cancelled as an operator does, through Prefect's API. The remains are looked for
in the engine, in the process table and among the concurrency slots.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from docker.models.containers import Container

from supply_chain.model.container import APPLICATION, ENVIRONMENT, MANAGED, ROLE
from tests.support.access import Prefect
from tests.support.application import Application, git
from tests.support.command import ROOT
from tests.support.eyes import containers, processes
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

SOON = 60.0
"""Seconds from the request to the state Cancelled; the worker polls for cancellations every few seconds."""


class Operator:
    """The actions of an operator, through Prefect's API."""

    def __init__(self, prefect: Prefect) -> None:
        self._prefect = prefect

    def start(self, path: Path) -> str:
        """Start a chain and return the run's id."""
        return self._prefect.start("chain/on-demand", path=str(path))

    def state(self, run: str) -> dict[str, Any]:
        state: dict[str, Any] = self._prefect.get(f"flow_runs/{run}")["state"]
        return state

    def cancel(self, run: str) -> float:
        """Cancel a run, wait until it has ended and return the seconds that it took."""
        started = time.monotonic()
        self._prefect.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        eventually(lambda: self.state(run)["type"] == "CANCELLED", SOON, lambda: self.state(run))
        return time.monotonic() - started

    def slots(self, name: str) -> int:
        """Return the number of taken slots of a limit."""
        return self._prefect.slots().get(name, 0)


@pytest.fixture
def operator(bases: None, prefect: Prefect) -> Operator:
    return Operator(prefect)


@pytest.fixture
def small(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that creates a small application in a repository of its own."""

    def make(name: str) -> Path:
        made = Application(name, tmp_path_factory.mktemp("small") / name)
        made.write(program, "staging")
        made.next_revision()
        return made.path

    return make


@pytest.fixture
def endless(small: Callable[[str], Path]) -> Callable[[str, int], Path]:
    """A function that creates a small application with a build step that sleeps so many seconds."""

    def make(name: str, seconds: int) -> Path:
        path = small(name)
        text = (path / "Dockerfile").read_text()
        step = f"\nFROM curated/base/python-build\nRUN echo {name} && exec sleep {seconds}\n"
        assert "\nFROM scratch\n" in text
        (path / "Dockerfile").write_text(text.replace("\nFROM scratch\n", step))
        return path

    return make


@pytest.fixture
def next_revision(tmp_path: Path) -> Path:
    """The hello example in a clone of this repository with one more commit: same application, other digest."""
    clone = tmp_path / ROOT.name

    git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
    remote = git(ROOT, "config", "--default", "", "--get", "remote.origin.url")
    git(clone, "remote", *(("set-url", "origin", remote) if remote else ("remove", "origin")))
    git(clone, "commit", "--allow-empty", "--quiet", "--message", "Try the next one")
    assert git(clone, "rev-parse", "HEAD") != git(ROOT, "rev-parse", "HEAD")
    return clone / "examples/hello"


def carrying(*marks: str) -> list[str]:
    """Return the command lines of processes that have a mark in their arguments or environment."""
    return processes(lambda command, environment: any(mark.encode() in command + environment for mark in marks))


def nothing_left(engine: docker.DockerClient, run: str, name: str) -> None:
    """Check that no container, network, image or process of this application and run is left."""
    assert not containers(engine, **{MANAGED: "true", APPLICATION: name})
    assert not engine.networks.list(filters={"label": f"{APPLICATION}={name}"})
    assert not engine.images.list(filters={"reference": f"cscm.local/{name}*"})
    eventually(lambda: not carrying(run, name), SOON, lambda: carrying(run, name))


def test_cancelled_build_ends_with_its_processes(
    operator: Operator, engine: docker.DockerClient, endless: Callable[[str, int], Path]
) -> None:
    """The client and the step inside of the build end, and there is no image."""
    name = "cancelled-build"
    run = operator.start(endless(name, 4321))
    eventually(lambda: carrying("sleep\x004321"), describe=lambda: operator.state(run))

    assert operator.cancel(run) < SOON
    nothing_left(engine, run, name)
    eventually(lambda: not carrying("sleep\x004321"), SOON, lambda: carrying("sleep\x004321"))


def test_long_builds_of_one_team_leave_a_slot_to_others(
    operator: Operator,
    prefect: Prefect,
    endless: Callable[[str, int], Path],
    small: Callable[[str], Path],
) -> None:
    """Pushes to two of its repositories use one slot of the work queue; the second one waits without a process."""
    paths = [endless(name, 4322) for name in ("slow-build", "another-slow-build")]
    slow = [prefect.start("chain/on-push", path=str(path), by_event=True, team="web") for path in paths]
    try:
        eventually(lambda: _states(operator, slow) == ["Queued", "Running"], describe=lambda: _states(operator, slow))

        other = prefect.start("chain/on-push", path=str(small("quick-build")), by_event=True)

        assert prefect.ended(other)["state_name"] == "Frozen"  # it has been built; the tests freeze promotions
        assert _states(operator, slow) == ["Queued", "Running"]
    finally:
        for run in slow:
            if operator.state(run)["type"] == "RUNNING":
                operator.cancel(run)
            else:
                prefect.delete(f"flow_runs/{run}")


def _states(operator: Operator, runs: list[str]) -> list[str]:
    return sorted(operator.state(run)["name"] for run in runs)


def test_cancelled_probe_leaves_no_container_or_network(
    operator: Operator, engine: docker.DockerClient, small: Callable[[str], Path]
) -> None:
    """The probe is cancelled while it waits for a port without listener."""
    name = "cancelled-probe"
    path = small(name)
    text = (path / "supply-chain.yaml").read_text()
    (path / "supply-chain.yaml").write_text(text.replace("port: 8080", "port: 8099"))
    run = operator.start(path)
    eventually(lambda: containers(engine, **{ROLE: "probe", APPLICATION: name}), describe=lambda: operator.state(run))

    assert operator.cancel(run) < SOON
    nothing_left(engine, run, name)


def test_cancelled_deployment_frees_its_slot_and_keeps_the_old_one(
    operator: Operator, engine: docker.DockerClient, next_revision: Path
) -> None:
    """The new container is removed before it is ready, and the next run need not wait for the lock."""
    here = {ROLE: "application", ENVIRONMENT: "staging", APPLICATION: "hello"}
    before = {each.id for each in containers(engine, **here)}
    run = operator.start(next_revision)

    def new() -> Container | None:
        return next((each for each in containers(engine, **here) if each.id not in before), None)

    started: Container = eventually(new, describe=lambda: operator.state(run))

    def running() -> bool:
        started.reload()
        return bool(started.status == "running")

    eventually(running)
    started.pause()
    taken = operator.slots("deploy staging hello")

    assert operator.cancel(run) < SOON
    assert taken == 1 and operator.slots("deploy staging hello") == 0
    assert {each.id for each in containers(engine, **here)} == before
    eventually(lambda: not carrying(run), SOON, lambda: carrying(run))
    if before:
        assert httpx.get("http://127.0.0.1:18080/healthz", timeout=5).status_code == 200
