"""Parsers of machine-readable test reports: JUnit XML, TAP, and the output of `go test -json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from xml.parsers import expat

LARGEST_REPORT = 16 * 1024 * 1024
"""Largest number of bytes of a report."""


@dataclass(frozen=True)
class Counts:
    """The number of tests that ran, and the number of those that failed. A skipped test did not run."""

    ran: int
    failed: int = 0


class ReportInvalid(ValueError):
    """A report is in none of the formats, or is truncated."""


def read_report(content: bytes) -> Counts:
    """Return how many tests a report contains; raise `ReportInvalid` if it cannot be read."""
    if len(content) > LARGEST_REPORT:
        raise ReportInvalid(f"it has more than {LARGEST_REPORT} bytes")
    start = content.lstrip()[:1]
    if start == b"<":
        return read_junit(content)
    text = content.decode("utf-8", "replace")
    counts = read_go(text) if start == b"{" else read_tap(text)
    if counts is None:
        raise ReportInvalid("it is neither JUnit XML nor TAP nor the output of `go test -json`")
    return counts


def read_junit(content: bytes) -> Counts:
    """Read JUnit XML: each `testcase`, and whether it was skipped or failed; refuse a document type."""
    cases: list[set[str]] = []
    depth: list[str] = []

    def start(name: str, _: object) -> None:
        depth.append(name)
        if len(depth) > 100:
            raise ReportInvalid("its elements are nested too deeply")
        if len(depth) == 1 and name not in ("testsuites", "testsuite"):
            raise ReportInvalid(f"its first element is {name[:40]!r}")
        if name == "testcase":
            cases.append(set())
        elif cases and len(depth) > 1 and depth[-2] == "testcase":
            cases[-1].add(name)

    def refuse(*_: object) -> None:
        raise ReportInvalid("it has a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: depth.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ReportInvalid(f"it is no XML: {error}") from error
    ran = [case for case in cases if "skipped" not in case]
    return Counts(len(ran), sum(bool(case & {"failure", "error"}) for case in ran))


def read_tap(text: str) -> Counts | None:
    """Read TAP 12 to 14: the plan, and each test line at the outermost level; return None if there is no plan.

    Raises `ReportInvalid` if the plan has another number of tests.
    """
    plan = re.search(r"^1\.\.(\d{1,9})", text, re.MULTILINE)
    if plan is None:
        return None
    ran = failed = reported = 0
    for line in re.finditer(r"^(not )?ok\b(.*)$", text, re.MULTILINE):
        directive = re.search(r"#\s*(skip|todo)", line[2], re.IGNORECASE)
        reported += 1
        if directive and directive[1].lower() == "skip":
            continue
        ran += 1
        failed += bool(line[1]) and directive is None
    if reported != int(plan[1]):
        raise ReportInvalid(f"it plans {int(plan[1])} tests and tells of {reported}")
    return Counts(ran, failed)


def read_go(text: str) -> Counts | None:
    """Read the events of test2json: each test that passed or failed; return None if a line is not such an event."""
    ran = failed = 0
    events = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(event, dict) or not isinstance(event.get("Action"), str):
            return None
        events += 1
        if isinstance(event.get("Test"), str) and event["Test"]:
            ran += event["Action"] in ("pass", "fail")
            failed += event["Action"] == "fail"
    return Counts(ran, failed) if events else None
