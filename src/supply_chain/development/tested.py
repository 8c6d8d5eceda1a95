"""Judgement of a test run that ended with status 0: which report counts, and how many tests ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from supply_chain.development.reports import Counts, ReportInvalid, read_report
from supply_chain.development.runners import detect_runner, has_no_tests


@dataclass(frozen=True)
class Tested:
    """The conclusion about a test run. `proven` is true if a report that counts says that `ran` tests ran."""

    proven: bool
    by: str = ""
    ran: int = 0
    nothing: bool = False
    """Whether the run itself reports that it tested nothing."""
    failed: str = ""
    """Why the run counts as failed although it ended with status 0; empty otherwise."""
    why: str = ""
    """Why no report proves that tests ran."""

    @property
    def details(self) -> dict[str, Any]:
        """Values for the details of the check's result."""
        return {"proven": self.proven, "by": self.by, "ran": self.ran}


def judge_tests(
    command: Sequence[str], output: str, path: str | None, report: bytes | None, before: bytes | None
) -> Tested:
    """Judge a test run by the report declared at `path`, or without one by the output of its test runner.

    `report` is the content of that file after the run and `before` its content before the run; None if there is no
    file.
    """
    if path is not None:
        return _by_report(path, report, before)
    runner = detect_runner(command)
    if runner is None:
        why = "the command is not a known test runner; let it write a report (test.report)"
        return Tested(False, nothing=has_no_tests(output), why=why)
    try:
        counts = runner.read(output)
    except ReportInvalid as error:
        return Tested(False, by=runner.name, why=f"{runner.name}'s output contradicts itself or is cut: {error}")
    if counts is None:
        why = f"{runner.name} did not report in its own format; {runner.advice}, or write a report (test.report)"
        return Tested(False, by=runner.name, nothing=has_no_tests(output), why=why)
    return _judge_counts(runner.name, counts)


def _by_report(path: str, report: bytes | None, before: bytes | None) -> Tested:
    if report is None:
        return Tested(
            False,
            failed=f"there is no regular file at {path} (test.report); paths of runtime.writable are lost at the end",
        )
    if report == before:
        return Tested(False, failed=f"its report {path} is the one that the image brought before the run (test.report)")
    try:
        return _judge_counts(f"the report {path}", read_report(report))
    except ReportInvalid as error:
        return Tested(False, failed=f"its report {path} cannot be read: {error}")


def _judge_counts(by: str, counts: Counts) -> Tested:
    if counts.failed:
        return Tested(False, by, counts.ran, failed=f"{by} tells of {counts.failed} failed tests")
    return Tested(counts.ran > 0, by, counts.ran, nothing=counts.ran == 0)
