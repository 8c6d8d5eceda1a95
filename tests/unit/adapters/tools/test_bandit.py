"""What is said about Python sources: by recorded reports, and by bandit itself."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.bandit import LARGEST, judged, parse_report, scan_source
from supply_chain.development.review import reviewed
from supply_chain.errors import CheckNotMade
from supply_chain.evidence.checks import Check, Outcome
from supply_chain.model.manifest import Review

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


@pytest.mark.parametrize(
    "name",
    [".venv/a.py", "node_modules/a.py", ".git/a.py", ".github/a.py", "CVS/a.py", "a.svn.py", "x.egg/a.py", ".tox/a.py",
     "__pycache__/a.py", "build/a.py", ".hidden.py", "-a.py", "a b.py", "é.py", "a.pyw"],
)  # fmt: skip
def test_reads_python_wherever_it_lies(tmp_path: Path, name: str):
    """bandit has directories and names that it leaves out without a word; the image takes them all."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("eval(input())\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.outcome, result.details) == (Outcome.FAILED, {"files": 1})
    assert result.failed[0].startswith(f"{name}:1: medium")


@pytest.mark.parametrize("first", ["#!/usr/bin/env python3", "#!/usr/bin/python3.11 -I", "#!/opt/venv/bin/python"])
def test_reads_programs_that_ask_for_python(tmp_path: Path, first: str):
    """Python needs no suffix to run."""
    (tmp_path / "entrypoint").write_text(f"{first}\neval(input())\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\npython -c pass\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.details, len(result.failed)) == ({"files": 1}, 1)


def test_compiled_and_packed_python_is_named(tmp_path: Path):
    """It runs as well as any other, and bandit cannot read it."""
    for name in ("old.pyc", "lib.whl", "app.pyz", "fine.py"):
        (tmp_path / name).write_bytes(b"")

    result = scan_source(BANDIT, tmp_path, now)

    assert result.outcome is Outcome.WARNED
    assert result.warned == ("3 compiled or packed files not read: app.pyz, lib.whl, old.pyc",)


def test_a_file_that_bandit_says_nothing_of_fails(tmp_path: Path):
    """Whatever its reason may be."""
    (tmp_path / "app.py").write_text("")
    (tmp_path / "other.py").write_text("")
    silent = tmp_path / "bandit"
    silent.write_text("#!/bin/sh\ncat <<'END'\n" + report() + "\nEND\n")
    silent.chmod(0o755)

    result = scan_source(Tool("bandit", silent, "1"), tmp_path, now)

    assert result.failed == ("other.py: not looked at: bandit says nothing of it",)


def test_only_what_was_read_is_counted_as_read(tmp_path: Path):
    """A broken file is among the failures, and not among the files that passed."""
    (tmp_path / "broken.py").write_text("def broken(:\n")
    (tmp_path / "fine.py").write_text("print('fine')\n")

    assert scan_source(BANDIT, tmp_path, now).passed == ("bandit read 1 lines in 1 files",)


def test_says_that_there_is_no_python(tmp_path: Path):
    """A Go service has none, and passes as that."""
    (tmp_path / "main.go").write_text("package main\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.outcome, result.passed) == (Outcome.PASSED, ("no Python sources",))


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


def test_memory_is_limited(program, tmp_path: Path):
    """What it reads may be made to take all of it."""
    asks = "for _ in $(seq 100); do [ $(ulimit -d) = unlimited ] || break; sleep 0.02; done; ulimit -d >&2; exit 3"
    (tmp_path / "app.py").write_text("")

    with pytest.raises(CheckNotMade, match=str(2 * 1024**2)):  # KiB
        scan_source(program("bandit").does(asks), tmp_path, now)


def test_a_source_that_is_too_large_to_be_read_fails(tmp_path: Path):
    """Each byte of one takes hundreds of memory, and nothing is known of it; its owner may review it."""
    (tmp_path / "large.py").write_text("#" * (LARGEST + 1))

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.failed, result.passed) == (("large.py:1: larger than 2 MiB, not read",), ())
    review = Review(check="source", at=("large.py:1",), reason="a table of names")
    assert reviewed(result, [review]).warned == (f"{result.failed[0]}, which was reviewed: a table of names",)
    (tmp_path / "large.py").write_text("#" * LARGEST)
    assert scan_source(BANDIT, tmp_path, now).passed == ("bandit read 0 lines in 1 files",)
