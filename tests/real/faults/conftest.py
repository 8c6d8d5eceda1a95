"""A small application of its own, in an environment of its own, on the running laptop."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from supply_chain.laptop.home import Home
from tests.real.conftest import placed

from .eyes import Eyes
from .strikes import STEPS, Run, Victim

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
def eyes(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Eyes:
    return Eyes(home, tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("keys"), PLACE)


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, int]]:
    """The ports of the applications in their environment."""
    with placed(PLACE, NAMES) as ports:
        yield ports


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
