"""Cancelling: a run ends within seconds wherever it is, and leaves nothing behind.

Runs are started and cancelled as an operator does it, through Prefect's API; what is left is looked
for in the engine, in the process table and among the concurrency slots.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from docker.models.containers import Container

from supply_chain.container import APPLICATION, ENVIRONMENT, MANAGED, ROLE
from supply_chain.laptop.home import Home
from supply_chain.laptop.laptop import LaptopState, load_state
from supply_chain.laptop.prefect_server import auth_string

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
CSCM = Path(sys.executable).with_name("cscm")
SOON = 20.0
"""Seconds from the request to the state Cancelled; the worker asks for cancellations every few seconds."""


class Operator:
    """What an operator does, by Prefect's API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        for _ in range(10):
            answer = self._client.post(path, json=body or {})
            if answer.status_code != 503:  # its database is locked for a moment; Prefect's client tries again too
                break
            time.sleep(0.5)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def start(self, path: Path) -> str:
        """Start a chain; the run's id."""
        deployment = self._client.get("deployments/name/chain/on-demand").json()["id"]
        run = self.ask(f"deployments/{deployment}/create_flow_run", {"parameters": {"path": str(path)}})
        return str(run["id"])

    def state(self, run: str) -> dict[str, Any]:
        state: dict[str, Any] = self._client.get(f"flow_runs/{run}").json()["state"]
        return state

    def cancel(self, run: str) -> float:
        """Cancel and wait for the end; seconds that it took."""
        started = time.monotonic()
        self.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        eventually(lambda: self.state(run)["type"] == "CANCELLED", SOON, lambda: self.state(run))
        return time.monotonic() - started

    def slots(self, name: str) -> int:
        """How many slots of a limit are taken."""
        limits = self.ask("v2/concurrency_limits/filter", {"limit": 200})
        return next((int(limit["active_slots"]) for limit in limits if limit["name"] == name), 0)


def eventually(holds: Callable[[], Any], seconds: float, said: Callable[[], object] = lambda: "") -> Any:
    """What `holds` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {said()}")


@pytest.fixture(scope="module")
def laptop() -> LaptopState:
    """The running laptop with its bases; `make test` has started it."""
    made = subprocess.run([str(CSCM), "bases"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert made.returncode == 0, made.stderr
    return load_state(Home.find(start=ROOT))


@pytest.fixture
def operator(laptop: LaptopState) -> Iterator[Operator]:
    user, _, password = auth_string(Home.find(start=ROOT)).partition(":")
    with httpx.Client(base_url=f"{laptop.prefect_api_url}/", auth=(user, password), timeout=30) as client:
        yield Operator(client)


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def application(tmp_path: Path) -> Callable[..., Path]:
    """A copy of hello, with changes to its files: `application(name, {"file": (old, new)})`."""

    def copy(name: str, changes: dict[str, tuple[str, str]]) -> Path:
        directory = tmp_path / name
        shutil.copytree(ROOT / "examples/hello", directory, ignore=shutil.ignore_patterns("__pycache__"))
        for file, (old, new) in {"supply-chain.yaml": ("name: hello", f"name: {name}"), **changes}.items():
            text = (directory / file).read_text()
            assert old in text
            (directory / file).write_text(text.replace(old, new))
        return directory

    return copy


@pytest.fixture
def next_revision(tmp_path: Path) -> Path:
    """hello in a clone of this repository, one commit on: the same application, and another digest."""
    clone = tmp_path / ROOT.name

    def git(*args: str, at: Path = clone) -> str:
        done = subprocess.run(["git", "-C", str(at), *args], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    git("clone", "--quiet", str(ROOT), str(clone), at=ROOT)
    remote = git("config", "--get", "remote.origin.url", at=ROOT)
    git(*(("remote", "set-url", "origin", remote) if remote else ("remote", "remove", "origin")))
    git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--allow-empty", "-m", "Try the next one")
    assert git("rev-parse", "HEAD") != git("rev-parse", "HEAD", at=ROOT)
    return clone / "examples/hello"


def containers(engine: docker.DockerClient, **labels: str) -> list[Container]:
    """All containers, running or not, with these labels."""
    found: list[Container] = engine.containers.list(
        all=True, filters={"label": [f"{key}={value}" for key, value in labels.items()]}, ignore_removed=True
    )
    return found


def processes(*marks: str) -> list[str]:
    """Command lines of the processes that carry a mark in their arguments or their environment."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (directory / "cmdline").read_bytes(), (directory / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if any(mark.encode() in command + environment for mark in marks):
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def nothing_left(engine: docker.DockerClient, run: str, name: str) -> None:
    """No container, network, image or process of this application and run."""
    assert not containers(engine, **{MANAGED: "true", APPLICATION: name})
    assert not engine.networks.list(filters={"label": f"{APPLICATION}={name}"})
    assert not engine.images.list(filters={"reference": f"cscm.local/{name}*"})
    eventually(lambda: not processes(run, name), 5, lambda: processes(run, name))


def test_a_cancelled_build_ends_with_what_it_runs(
    operator: Operator, engine: docker.DockerClient, application: Callable[..., Path]
) -> None:
    """The builder's command and the step inside of the build end; no image comes of it."""
    name = "cancelled-build"
    forever = f"RUN echo {name} && exec sleep 4321"
    path = application(name, {"Dockerfile": ("COPY hello hello", forever)})
    run = operator.start(path)
    eventually(lambda: processes("sleep\x004321"), 60, lambda: operator.state(run))

    assert operator.cancel(run) < SOON
    nothing_left(engine, run, name)
    eventually(lambda: not processes("sleep\x004321"), 5, lambda: processes("sleep\x004321"))


def test_a_cancelled_probe_leaves_no_container(
    operator: Operator, engine: docker.DockerClient, application: Callable[..., Path]
) -> None:
    """The probe waits for a port on which nobody listens; its container and network go with the run."""
    name = "cancelled-probe"
    path = application(name, {})
    text = (path / "supply-chain.yaml").read_text()
    (path / "supply-chain.yaml").write_text(text.replace("port: 8080", "port: 8099"))
    run = operator.start(path)
    eventually(lambda: containers(engine, **{ROLE: "probe", APPLICATION: name}), 60, lambda: operator.state(run))

    assert operator.cancel(run) < SOON
    nothing_left(engine, run, name)


def test_a_cancelled_deployment_gives_back_its_slot_and_the_one_before_serves_on(
    operator: Operator, engine: docker.DockerClient, next_revision: Path
) -> None:
    """The new container, held before it is ready, is removed; nobody who comes next waits for a turn."""
    here = {ROLE: "application", ENVIRONMENT: "staging", APPLICATION: "hello"}
    before = {each.id for each in containers(engine, **here)}
    run = operator.start(next_revision)

    def new() -> Container | None:
        return next((each for each in containers(engine, **here) if each.id not in before), None)

    started: Container = eventually(new, 60, lambda: operator.state(run))
    eventually(lambda: started.reload() or started.status == "running", 5)
    started.pause()
    taken = operator.slots("deploy staging hello")

    assert operator.cancel(run) < SOON
    assert taken == 1 and operator.slots("deploy staging hello") == 0
    assert {each.id for each in containers(engine, **here)} == before
    eventually(lambda: not processes(run), 5, lambda: processes(run))
    if before:
        assert httpx.get("http://127.0.0.1:18080/healthz", timeout=5).status_code == 200
