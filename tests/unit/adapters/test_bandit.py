"""What is said about Python sources: by recorded reports, and by bandit itself."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supply_chain.adapters.bandit import judged, parse_report, scan_source
from supply_chain.adapters.command import Tool
from supply_chain.errors import CheckNotMade
from supply_chain.evidence.checks import Check, Outcome

BANDIT = Tool("bandit", Path(sys.executable).parent / "bandit", "1")


def now() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


def report(*results: dict[str, Any], errors: tuple[dict[str, str], ...] = (), nosec: int = 0) -> str:
    """bandit's JSON about one file."""
    metrics = {"././app.py": {"loc": 7, "nosec": nosec, "skipped_tests": 0}, "_totals": {"loc": 7, "nosec": nosec}}
    return json.dumps({"errors": errors, "generated_at": "", "metrics": metrics, "results": results})


def finding(severity: str, filename: str = "./app.py", test_id: str = "B602") -> dict[str, Any]:
    text = "subprocess call\nwith shell=True"
    return {"test_id": test_id, "issue_severity": severity, "issue_text": text, "filename": filename,
            "line_number": 3, "code": "…", "issue_confidence": "HIGH"}  # fmt: skip


@pytest.mark.parametrize("severity", ["MEDIUM", "HIGH"])
def test_medium_and_high_fail(severity: str):
    """Each with its place, so that it can be found."""
    _, warned, failed = judged([parse_report(report(finding(severity)))])

    assert warned == ()
    assert failed == (f"app.py:3: {severity.lower()}: subprocess call with shell=True (B602)",)


@pytest.mark.parametrize("severity", ["LOW", "UNDEFINED"])
def test_low_warns(severity: str):
    """It is told and refuses nothing."""
    _, warned, failed = judged([parse_report(report(finding(severity)))])

    assert (len(warned), failed) == (1, ())


@pytest.mark.parametrize("name", ["./tests/test_app.py", "./test_app.py", "./app/tests/helpers.py", "./conftest.py"])
def test_asserts_in_tests_are_no_finding(name: str):
    """They are what tests are made of."""
    _, warned, failed = judged([parse_report(report(finding("LOW", name, "B101")))])

    assert (warned, failed) == ((), ())


@pytest.mark.parametrize("name", ["./app.py", "./attests/app.py", "./latest_app.py"])
def test_asserts_elsewhere_warn(name: str):
    """Optimised bytecode has no asserts, so that no check may be one."""
    _, warned, _ = judged([parse_report(report(finding("LOW", name, "B101")))])

    assert len(warned) == 1


def test_a_file_bandit_could_not_read_fails():
    """Nothing is known of it, and that is not in its favour."""
    _, _, failed = judged([parse_report(report(errors=({"filename": "./app.py", "reason": "syntax error"},)))])

    assert failed == ("app.py: not looked at: syntax error",)


def test_what_comments_silence_is_told():
    """An inline exception is the author's to make and everybody's to see."""
    _, warned, _ = judged([parse_report(report(nosec=2))])

    assert warned == ("app.py: comments silence 2 findings",)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"results": []}', "Traceback"])
def test_no_report_is_no_answer(text: str):
    """What cannot be read is neither a pass nor a failure."""
    with pytest.raises(CheckNotMade, match="bandit's report"):
        parse_report(text)


def test_finds_what_is_dangerous(tmp_path: Path):
    """bandit itself, on a file in a directory below."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.check, result.outcome) == (Check.SOURCE, Outcome.FAILED)
    assert [line.split(": ")[:2] for line in result.failed] == [["app/main.py:2", "high"]]


def test_fails_on_a_syntax_error(tmp_path: Path):
    """bandit leaves such a file out and says so only in its report."""
    (tmp_path / "broken.py").write_text("def broken(:\n")

    assert scan_source(BANDIT, tmp_path, now).failed[0].startswith("broken.py: not looked at")


def test_says_that_there_is_no_python(tmp_path: Path):
    """A Go service has none, and passes as that."""
    (tmp_path / "main.go").write_text("package main\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.outcome, result.passed) == (Outcome.PASSED, ("no Python sources",))


def test_looks_at_the_build_context_only(tmp_path: Path):
    """What .dockerignore leaves out does not get into the image."""
    (tmp_path / ".dockerignore").write_text("# the developer's own\n.venv\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "evil.py").write_text("eval(input())\n")
    (tmp_path / "-fine.py").write_text("print('fine')\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert result.outcome is Outcome.PASSED
    assert result.details == {"files": 1}


def test_an_application_cannot_bring_its_own_configuration(tmp_path: Path):
    """A `.bandit` in the sources does not make bandit blind."""
    (tmp_path / ".bandit").write_text("[bandit]\nskips = B307\n")
    (tmp_path / "app.py").write_text("eval(input())\n")

    assert scan_source(BANDIT, tmp_path, now).outcome is Outcome.FAILED


def test_a_bandit_that_crashes_gives_no_answer(tmp_path: Path):
    """A program that ends with another status has checked nothing."""
    (tmp_path / "app.py").write_text("")
    crashing = tmp_path / "bandit"
    crashing.write_text("#!/bin/sh\necho broken >&2\nexit 2\n")
    crashing.chmod(0o755)

    with pytest.raises(CheckNotMade, match="status 2: broken"):
        scan_source(Tool("bandit", crashing, "1"), tmp_path, now)
