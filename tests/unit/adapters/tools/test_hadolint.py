"""Tests of the check of a Dockerfile, with recorded reports and with hadolint itself."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.hadolint import EXEC, LINT_VERSION, _use_shell_form, lint_dockerfile, parse_report
from supply_chain.errors import CheckIncomplete
from supply_chain.evidence.checks import Check, Outcome

HADOLINT = Tool("hadolint", Path(sys.executable).parent / "hadolint", "2")


def now() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


def finding(level: str, line: int = 1, code: str = "DL4000") -> dict[str, object]:
    return {"code": code, "column": 1, "file": "Dockerfile", "level": level, "line": line, "message": "It is\nwrong"}


@pytest.mark.parametrize("level", ["error", "warning"])
def test_errors_and_warnings_fail_the_check(level: str):
    """A rule that hadolint rates as a warning is still a rule."""
    _, warned, failed = parse_report(json.dumps([finding(level)]), "FROM scratch\n")

    assert (warned, failed) == ((), ("line 1: It is wrong (DL4000)",))


@pytest.mark.parametrize("level", ["info", "style"])
def test_info_and_style_findings_warn(level: str):
    """Matters of style are reported but refuse nothing."""
    _, warned, failed = parse_report(json.dumps([finding(level)]), "FROM scratch\n")

    assert (warned, failed) == (("line 1: It is wrong (DL4000)",), ())


def test_root_user_is_reported_with_remedy():
    """hadolint's message does not say it."""
    _, _, failed = parse_report(json.dumps([finding("warning", code="DL3002")]), "FROM scratch\n")

    assert failed == ("line 1: It is wrong: end with USER and a number other than 0 (DL3002)",)


@pytest.mark.parametrize("line", ["FROM curated/base/python AS build", "from --platform=linux/amd64 curated/base/x"])
def test_curated_base_needs_no_tag(line: str):
    """The build pins the base by digest, which is more precise than a tag."""
    passed, warned, failed = parse_report(json.dumps([finding("warning", code="DL3006")]), line)

    assert (warned, failed) == ((), ())
    assert "line 1: a curated base, pinned to its digest by the build" in passed


@pytest.mark.parametrize("line", ["FROM python", "FROM example.com/curated/base/python", "FROM curated/basement"])
def test_any_other_base_needs_a_tag(line: str):
    """The build pins only bases of the curated repositories."""
    _, _, failed = parse_report(json.dumps([finding("warning", code="DL3006")]), line)

    assert len(failed) == 1


def test_findings_silenced_by_comments_are_reported():
    """The author may silence a rule, but everybody has to see it."""
    _, warned, _ = parse_report("[]", "FROM scratch\n# hadolint ignore=DL3002,DL3006\nUSER root\n")

    assert warned == ("line 2: a comment silences DL3002,DL3006",)


@pytest.mark.parametrize(
    "line",
    [
        "# hadolint shell=powershell",
        "  #hadolint  shell = pwsh",
        "# hadolint global shell=cmd",
        "# shellcheck disable=all",
        "\t#shellcheck disable=SC2086",
        'cd "$directory"; # shellcheck disable=all',
    ],
)
def test_comment_that_changes_what_is_checked_is_reported(line: str):
    """ShellCheck obeys comments in a heredoc, and hadolint does not use it for a shell that it does not know."""
    _, warned, _ = parse_report("[]", f"FROM scratch\nRUN <<END\n{line}\nrm $all\nEND\n")

    text = line[line.index("#") + 1 :].strip()
    assert warned == (f"line 3: a comment changes what is checked: {text}",)


@pytest.mark.parametrize(
    "line",
    [
        'SHELL ["pwsh", "-c"]',
        'shell ["/opt/cmd"]',
        "SHELL \\",
        "#!/bin/zsh",
        "#!/x/python3 -I",
        "#! /bin/sh",
        "#!/BIN/SH",
    ],
)
def test_shell_that_shellcheck_does_not_know_is_reported(line: str):
    """hadolint says nothing about its commands."""
    _, warned, _ = parse_report("[]", f"FROM scratch\n{line}\n")

    assert warned == (f"line 2: ShellCheck may not read commands of this shell: {line}",)


@pytest.mark.parametrize(
    "line",
    [
        "# hadolint is used",
        "# install shellcheck",
        'SHELL ["/bin/bash", "-c"]',
        'SHELL [ "sh" ]',
        "#!/bin/sh -eu",
        "#!/usr/bin/env bash",
    ],
)
def test_other_comment_and_known_shell_are_not_reported(line: str):
    """Only what changes the check is worth a sentence."""
    _, warned, _ = parse_report("[]", f"FROM scratch\n{line}\n")

    assert warned == ()


@pytest.mark.parametrize("report", ["", "{}", "[{}]", '[{"code": "DL1"}]', "hadolint: cannot"])
def test_unreadable_report_raises_check_not_made(report: str):
    """Such a report is neither a pass nor a failure."""
    with pytest.raises(CheckIncomplete, match="hadolint's report"):
        parse_report(report, "FROM scratch\n")


def test_clean_dockerfile_passes(tmp_path: Path):
    """The test runs hadolint itself."""
    (tmp_path / "Dockerfile").write_text("FROM curated/base/python\nUSER 10001:10001\n")

    result = lint_dockerfile(HADOLINT, tmp_path / "Dockerfile", now)

    assert (result.check, result.outcome) == (Check.DOCKERFILE, Outcome.PASSED)
    assert result.tools == {"hadolint": "2", "lint": LINT_VERSION}


def test_unparsable_dockerfile_fails(tmp_path: Path):
    """The output of hadolint shows the line it could not parse."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nFETCH everything\n")

    result = lint_dockerfile(HADOLINT, tmp_path / "Dockerfile", now)

    assert result.outcome is Outcome.FAILED
    assert "line 2: unexpected" in result.failed[0]


def test_configuration_of_application_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An application must not disable rules by its own configuration."""
    (tmp_path / ".hadolint.yaml").write_text("ignored: [DL3000]\n")
    (tmp_path / "Dockerfile").write_text("FROM curated/base/python\nWORKDIR app\n")
    monkeypatch.chdir(tmp_path)

    result = lint_dockerfile(HADOLINT, tmp_path / "Dockerfile", now)

    assert result.failed == ("line 2: Use absolute WORKDIR (DL3000)",)


def test_missing_dockerfile_raises_check_not_made(tmp_path: Path):
    """hadolint fails, so nothing was checked."""
    with pytest.raises(CheckIncomplete, match="hadolint ended with status"):
        lint_dockerfile(HADOLINT, tmp_path / "Dockerfile", now)


def test_memory_of_hadolint_is_limited(program, tmp_path: Path):
    """A single line that expands variables thousands of times takes gigabytes."""
    asks = "for _ in $(seq 100); do [ $(ulimit -d) = unlimited ] || break; sleep 0.02; done; ulimit -d >&2; exit 3"
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")

    with pytest.raises(CheckIncomplete, match=str(1024**2)):  # KiB
        lint_dockerfile(program("hadolint").does(asks), tmp_path / "Dockerfile", now)


@pytest.mark.parametrize("command", ['["sh", "-c", "cd $HOME/a b"]', '["/bin/sh", "-ec", "cd $HOME/a b"]'])
def test_script_in_exec_form_is_linted(tmp_path: Path, command: str):
    """Its findings are those of the shell form, in the same line."""
    (tmp_path / "Dockerfile").write_text(f"FROM curated/base/python\n\nRUN {command}\nUSER 1000\n")

    result = lint_dockerfile(HADOLINT, tmp_path / "Dockerfile", now)

    assert any(each.startswith("line 3: ") and "(SC" in each for each in (*result.failed, *result.warned))


@pytest.mark.parametrize(
    "command", ['["make", "-c", "cd $HOME/a b"]', '["bash", "-c", "[[ a = b ]]"]', '["a"', '["sh"]']
)
def test_other_command_in_exec_form_is_unchanged(command: str):
    """ShellCheck knows other shells by the SHELL instruction only."""
    assert EXEC.sub(_use_shell_form, f"RUN {command}") == f"RUN {command}"
