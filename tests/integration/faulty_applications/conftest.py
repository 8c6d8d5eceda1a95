"""Runs the chain of each case once for all tests, several at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.home import Home
from tests.integration.faulty_applications.subjects import INFORMATION, PLACE, SERVING, Ended, Make, Served, Subject
from tests.support.application import Application, compiled, git
from tests.support.eyes import Eyes
from tests.support.place import placed

from .cases import CASES, GOOD, WHILE_SERVING, Case, End

AT_ONCE = 3


@pytest.fixture(scope="session")
def programs(program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program, the program for another machine, and the program without its list of modules."""
    directory = tmp_path_factory.mktemp("programs")
    arm, nameless = directory / "arm", directory / "nameless"
    compiled(arm, "arm64")
    content = program.read_bytes()
    assert INFORMATION in content
    nameless.write_bytes(content.replace(INFORMATION, bytes(len(INFORMATION))))
    return {"program": program, "arm": arm, "nameless": nameless}


@pytest.fixture(scope="session")
def ports() -> Iterator[dict[str, int]]:
    names = [case.application for case in CASES if case.end is End.ALLOWED]
    with placed(PLACE, [SERVING, *names], GREETING="hello") as found:
        yield found


@pytest.fixture(scope="session")
def make(
    bases: None,
    home: Home,
    ports: dict[str, int],
    programs: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """A function that creates an empty application with this name."""

    def of(name: str) -> Subject:
        path = tmp_path_factory.mktemp("source") / name.rpartition("/")[2]
        path.mkdir()
        git(path, "init", "--quiet")
        eyes = Eyes(home, tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("keys"), PLACE)
        return Subject(Application(name, path, ports.get(name, 0), {"TMPDIR": str(eyes.scratch)}), eyes, programs)

    return of


@pytest.fixture(scope="session")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as started:
        yield started
        started.shutdown(cancel_futures=True)


def selected(request: pytest.FixtureRequest, argument: str) -> list[Any]:
    """Return the parameters of this session's tests."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return [item.callspec.params[argument] for item in items if argument in _parameters(item)]


def _parameters(item: pytest.Function) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


@pytest.fixture(scope="session")
def served(make: Make, pool: ThreadPoolExecutor) -> Future[tuple[Served, ...]]:
    """The chains of one application: a good revision, those with the faults of `WHILE_SERVING`, and a good one."""

    def run(case: Case) -> Served:
        subject.become(case)
        ran, eyes = subject.ended(), subject.eyes
        container = eyes.running(SERVING)
        assert container.status == "running"
        answers = eyes.answers(subject.app.url)
        return Served(ran, ran.states(), ran.signatures(), ran.left(), str(container.id), answers)

    subject = make(SERVING)
    cases = (GOOD, *(case for case, _ in WHILE_SERVING), GOOD)
    return pool.submit(lambda: tuple(map(run, cases)))


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, make: Make, pool: ThreadPoolExecutor) -> dict[str, Future[Ended]]:
    """The chain of each case that this session tests, by name."""
    if any("served" in item.fixturenames for item in request.session.items if isinstance(item, pytest.Function)):
        request.getfixturevalue("served")  # it takes longest, so it starts first

    def run(subject: Subject, case: Case) -> Ended:
        subject.become(case)
        return subject.ended()

    cases: dict[str, Case] = {case.name: case for case in selected(request, "case")}
    return {name: pool.submit(run, make(case.application), case) for name, case in cases.items()}
