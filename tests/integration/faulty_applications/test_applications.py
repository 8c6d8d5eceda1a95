"""Faulty applications: each ends with a clear message and a code, and leaves no partial result."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.integration.faulty_applications.subjects import Ended
from tests.support.waiting import eventually

from .cases import CASES, STATUS, Case, End

pytestmark = pytest.mark.real


@pytest.mark.parametrize("case", CASES, ids=str)
def test_faulty_application_ends_in_expected_state_without_remains(case: Case, runs: dict[str, Future[Ended]]) -> None:
    """State, code, message, signatures, containers and remaining resources are checked."""
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
def test_processes_of_a_timed_out_build_end(case: Case, runs: dict[str, Future[Ended]]) -> None:
    """The process in the builder ends too, not only the client."""
    runs[case.name].result()

    eventually(lambda: not running("hang", case.name), describe=lambda: running("hang", case.name))


def running(*words: str) -> list[Path]:
    """List the processes of this machine that have these words in their command line."""
    called = "\0".join(("", *words, "")).encode()
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if called in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has just ended
        return b""
