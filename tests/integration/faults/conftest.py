"""A small application in an environment of its own, on the running laptop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from tests.support.application import Application
from tests.support.eyes import Eyes
from tests.support.place import placed

from .kills import STEPS, Victim

NAMES = ("interrupted", "beside")
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of the faults and their results."""
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
    terminalreporter.write_sep("=", f"kills, CSCM_SEED={', '.join(map(str, seeds))}")
    terminalreporter.write_line("".join(f"{head:<24}" for head in ("step", *Victim)))
    for step in STEPS:
        cells = [told.get((step, victim), "") for victim in Victim]
        if any(cells):
            terminalreporter.write_line("".join(f"{cell:<24}" for cell in (step, *cells)).rstrip())
