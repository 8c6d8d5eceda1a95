"""Rubbish in place of an application: said clearly, with a code, and nothing half-done."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.support.waiting import eventually

from .cases import CASES, STATUS, Case, End
from .conftest import Ended

pytestmark = pytest.mark.real


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rubbish_ends_as_it_should_and_leaves_nothing(case: Case, runs: dict[str, Future[Ended]]) -> None:
    """Its status, its code, its run's name; nothing that could run where it was not allowed; no trace of the work."""
    ran = runs[case.name].result()
    eyes = ran.subject.eyes

    assert (ran.status, ran.codes()) == (STATUS[case.end], case.codes), ran.words
    assert case.says in ran.words
    assert (ran.states(), ran.left()) == ([case.end], {})
    assert ran.signatures() == ([1] if case.end is End.ALLOWED else [0] if case.stored else [])
    assert len(ran.offered()) == (case.end is not End.FAILED)
    if case.end is End.ALLOWED:
        assert eyes.running(case.application).status == "running"
        assert eyes.answers(ran.subject.app.url)
    else:
        assert eyes.containers(case.application) == []


@pytest.mark.parametrize("case", [case for case in CASES if case.name == "build-hangs"], ids=str)
def test_what_a_build_runs_ends_with_it(case: Case, runs: dict[str, Future[Ended]]) -> None:
    """Not the client alone: the builder's own process too."""
    runs[case.name].result()

    eventually(lambda: not running("hang", case.name), 10, lambda: running("hang", case.name))


def running(*words: str) -> list[Path]:
    """The processes of this machine that were called with these words."""
    called = "\0".join(("", *words, "")).encode()
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if called in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""
