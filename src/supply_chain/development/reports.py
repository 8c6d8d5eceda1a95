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
    """The number of tests that ran, and the number of those that failed.

    A skipped test did not run. A test that is expected to fail, and does, shows nothing and counts as skipped.
    """

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


NOT_RUN, FAILED = ("notrun", "disabled", "skipped", "suppressed", "ignored", "pending"), ("failed", "failure", "error")
"""Values of a test case's `status` or `result`, as GoogleTest and others write them."""


def read_junit(content: bytes) -> Counts:
    """Read JUnit XML: each `testcase`, whether it was skipped or failed, and errors of a suite; refuse a document type.

    Names count without their namespace.
    """
    cases: list[set[str]] = []
    depth: list[str] = []
    outside: list[str] = []

    def start(qualified: str, attributes: dict[str, str]) -> None:
        name = qualified.rpartition(":")[2]
        depth.append(name)
        if len(depth) > 100:
            raise ReportInvalid("its elements are nested too deeply")
        if len(depth) == 1 and name not in ("testsuites", "testsuite"):
            raise ReportInvalid(f"its first element is {name[:40]!r}")
        if name == "testcase":
            cases.append(_state(attributes))
        elif cases and len(depth) > 1 and depth[-2] == "testcase":
            cases[-1].add(name)
        elif name in ("error", "failure") and depth[-2] in ("testsuites", "testsuite"):
            outside.append(name)
        elif name in ("testsuites", "testsuite") and _has_failures(attributes):
            suites.append(name)

    def refuse(*_: object) -> None:
        raise ReportInvalid("it has a document type")

    suites: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: depth.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ReportInvalid(f"it is not XML: {error}") from error
    failed = sum(bool(case & {"failure", "error"}) for case in cases)
    passed = sum(not case & {"failure", "error", "skipped"} for case in cases)
    others = len(outside) or (bool(suites) and not failed)
    return Counts(passed + failed + others, failed + others)


def _state(attributes: dict[str, str]) -> set[str]:
    """Return the elements that a test case's attributes stand for."""
    values = {attributes.get(name, "").lower() for name in ("status", "result")}
    return {*(["skipped"] if values & {*NOT_RUN} else []), *(["failure"] if values & {*FAILED} else [])}


def _has_failures(attributes: dict[str, str]) -> bool:
    return any(re.fullmatch(r"0*[1-9]\d*", attributes.get(name, "")) for name in ("failures", "errors"))


def read_tap(text: str) -> Counts | None:
    """Read TAP 12 to 14: the plan, and each test line at the outermost level; return None if there is no plan.

    `Bail out!` counts as a failed test. Raises `ReportInvalid` if the plan has another number of tests.
    """
    plan = re.search(r"^1\.\.(\d{1,9})", text, re.MULTILINE)
    stopped = bool(re.search(r"^Bail out!", text, re.MULTILINE | re.IGNORECASE))
    if plan is None and not stopped:
        return None
    ran = failed = reported = 0
    for line in re.finditer(r"^(not )?ok\b(.*)$", text, re.MULTILINE):
        directive = re.search(r"#\s*(skip|todo)", line[2], re.IGNORECASE)
        reported += 1
        if directive and (line[1] or directive[1].lower() == "skip"):
            continue
        ran += 1
        failed += bool(line[1])
    if stopped:
        return Counts(ran + 1, failed + 1)
    if plan is not None and reported != int(plan[1]):
        raise ReportInvalid(f"it plans {int(plan[1])} tests and tells of {reported}")
    return Counts(ran, failed)


def read_go(text: str) -> Counts | None:
    """Read the events of test2json: each test that passed or failed; return None if a line is not such an event.

    A package that failed without a failed test, or that could not be built, counts as a failed test.
    """
    ran = failed = broken = 0
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
        else:
            broken += event["Action"] in ("fail", "build-fail")
    if not failed:
        ran, failed = ran + broken, broken
    return Counts(ran, failed) if events else None
