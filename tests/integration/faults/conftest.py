"""A small application in an environment of its own, on the running laptop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from tests.support.application import Application
from tests.support.eyes import Eyes
from tests.support.place import placed
from tests.support.waiting import eventually

from .kills import STEPS, KilledRun, Victim

NAMES = ("interrupted", "beside", "killed-in-build", "killed-in-test")
"""The last two have no run after the killed one."""
PLACE = "interrupted"


@pytest.fixture(scope="session")
def eyes(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Eyes:
    return Eyes(home, tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("keys"), PLACE)


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, int]]:
    """A map from application to port in the environment."""
    with placed(PLACE, NAMES) as ports:
        yield ports


@pytest.fixture(scope="session")
def application(
    bases: None, environment: dict[str, int], program: Path, eyes: Eyes, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Application]:
    """A function that returns an application by name."""
    made: dict[str, Application] = {}

    def of(name: str) -> Application:
        if name not in made:
            path = tmp_path_factory.mktemp("source") / name
            made[name] = Application(name, path, environment[name], {"TMPDIR": str(eyes.scratch)})
            made[name].write(program, PLACE)
        return made[name]

    return of


@pytest.fixture(scope="session")
def killed(application: Callable[[str], Application], eyes: Eyes) -> tuple[KilledRun, ...]:
    """Two runs that were killed: one in its build, the other in its tests."""
    return tuple(_kill(application(f"killed-in-{step}"), eyes, step) for step in ("build", "test"))


def _kill(app: Application, eyes: Eyes, step: str) -> KilledRun:
    """Start a run of a new revision and kill it during a step."""
    app.next_revision()
    run = app.chain()

    def under_way() -> bool:
        return any(" build " in each for each in eyes.processes()) if step == "build" else "build" in run.steps

    eventually(lambda: run.over or under_way(), describe=run.last_lines)
    assert not run.over, run.last_lines()
    assert step not in run.steps, run.last_lines()
    run.kill()
    run.end()
    return KilledRun(app.name, run.started, time.time())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of the faults and their results."""
    results: dict[tuple[str, str], str] = {}
    seeds = set()
    for outcome, word in (("passed", "held"), ("failed", "BROKEN")):
        for report in terminalreporter.getreports(outcome):
            properties = dict(report.user_properties)
            if "victim" in properties and report.when == "call":
                seeds.add(properties["seed"])
                results[str(properties["step"]), str(properties["victim"])] = (
                    f"{properties.get('ended', '')} {word}".strip()
                )
    if not results:
        return
    terminalreporter.write_sep("=", f"kills, CSCM_SEED={', '.join(map(str, seeds))}")
    terminalreporter.write_line("".join(f"{head:<24}" for head in ("step", *Victim)))
    for step in STEPS:
        cells = [results.get((step, victim), "") for victim in Victim]
        if any(cells):
            terminalreporter.write_line("".join(f"{cell:<24}" for cell in (step, *cells)).rstrip())
