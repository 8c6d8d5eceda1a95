"""A small application of its own, in an environment of its own, on the running laptop."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from supply_chain.container import ENVIRONMENT
from supply_chain.laptop.home import Home

from .eyes import Eyes
from .strikes import CSCM, ROOT, STEPS, Run, Victim

NAMES = ("interrupted", "beside")
PLACE = "interrupted"
HERE = Path(__file__).parent


@dataclass
class Application:
    """A git repository with the application in it; each revision is another image."""

    name: str
    path: Path
    port: int
    environment: dict[str, str]
    revisions: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/healthz"

    def next_revision(self) -> str:
        """Commit a change; the revision."""
        self.revisions += 1
        (self.path / "revision").write_text(f"{self.revisions}\n")
        self._git("add", ".")
        self._git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "Go on")
        return self._git("rev-parse", "HEAD")

    def chain(self, *options: str) -> Run:
        return Run(self.path, self.environment, options)

    def _git(self, *args: str) -> str:
        done = subprocess.run(["git", "-C", str(self.path), *args], capture_output=True, text=True, check=True)
        return done.stdout.strip()


@pytest.fixture(scope="session")
def home() -> Home:
    return Home.find(start=ROOT)


@pytest.fixture(scope="session")
def bases() -> None:
    made = subprocess.run([str(CSCM), "bases"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert made.returncode == 0, made.stderr


@pytest.fixture(scope="session")
def eyes(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Eyes:
    return Eyes(home, tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("keys"), PLACE)


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, int]]:
    """The environment's document, and application → port; what carries its name is removed afterwards."""
    ports = {name: _free_port() for name in NAMES}
    document = ROOT / f"deployments/environments/{PLACE}.yaml"
    places = "".join(f"  {name}:\n    port: {port}\n" for name, port in ports.items())
    document.write_text(
        f"name: {PLACE}\ndescription: Where the tests of interruptions deploy.\napplications:\n{places}"
    )
    yield ports
    document.unlink()
    client = docker.from_env()
    label = {"label": f"{ENVIRONMENT}={PLACE}"}
    for container in client.containers.list(all=True, filters=label):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters=label):
        volume.remove()
    for network in client.networks.list(filters=label):
        network.remove()
    client.close()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service that the container tests use too, without any of its faults."""
    path = tmp_path_factory.mktemp("program") / "subject"
    subprocess.run(
        ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(path), "."],
        cwd=HERE.parent / "containers/subject", env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
        check=True, timeout=300,
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def application(
    bases: None, environment: dict[str, int], program: Path, eyes: Eyes, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Application]:
    """An application by its name, with one revision deployed and serving."""
    made: dict[str, Application] = {}

    def of(name: str) -> Application:
        if name not in made:
            path = tmp_path_factory.mktemp("source") / name
            shutil.copytree(HERE / "subject", path)
            shutil.copy(program, path)
            declaration = path / "supply-chain.yaml"
            declaration.write_text(declaration.read_text().replace("NAME", name))
            subprocess.run(["git", "init", "--quiet", str(path)], check=True)
            made[name] = Application(name, path, environment[name], {"TMPDIR": str(eyes.scratch)})
        return made[name]

    return of


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table of what was struck and what came of it."""
    told: dict[tuple[str, str], str] = {}
    seeds = set()
    for outcome, word in (("passed", "held"), ("failed", "BROKEN")):
        for report in terminalreporter.getreports(outcome):
            known = dict(report.user_properties)
            if "victim" in known and report.when == "call":
                seeds.add(known["seed"])
                told[str(known["step"]), str(known["victim"])] = f"{known.get('ended', '')} {word}".strip()
    if not told:
        return
    terminalreporter.write_sep("=", f"strikes, CSCM_SEED={', '.join(map(str, seeds))}")
    terminalreporter.write_line("".join(f"{head:<24}" for head in ("step", *Victim)))
    for step in STEPS:
        cells = [told.get((step, victim), "") for victim in Victim]
        if any(cells):
            terminalreporter.write_line("".join(f"{cell:<24}" for cell in (step, *cells)).rstrip())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
