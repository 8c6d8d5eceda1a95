"""Finds dangerous code in Python sources with bandit."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from supply_chain.adapters.files.selection import describe_files, list_files, list_links, split_arguments
from supply_chain.adapters.image.python_sources import (
    LARGEST_TEXT,
    MODULE,
    STARTUP,
    STARTUP_FILE,
    is_python_program,
    is_python_text,
    select_startup_lines,
)
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.nosec import read_comments
from supply_chain.errors import CheckIncomplete, ToolTimedOut
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.model.image import Interval
from supply_chain.scratch import make_scratch_directory
from supply_chain.text import pluralize

LONGEST = 600.0
"""Seconds after which bandit is ended, and no further file is read."""
MEMORY = 2 * 1024**3
"""Maximum bytes of memory that bandit may use."""
LARGEST = 2 * 1024**2
"""Maximum bytes of a file that is read: bandit needs about 500 times as much memory."""

TESTS = re.compile(r"(^|/)(tests?/|test_[^/]*\.py$|[^/]*_test\.py$|conftest\.py$)")
ASSERT = "B101"
"""Code of bandit's finding about `assert`, which is normal in tests."""
PASSWORDS, PASSWORD = ("B105", "B106", "B107"), "Possible hardcoded password"
"""Codes of bandit's findings that quote a password, and the text without it: many people read a result."""
SOURCE_VERSION = "8"
"""Version of this check. Raise it when more is read, so that files that were checked before are checked again."""
PACKED = re.compile(r"\.(pyc|pyo|pyz|whl|egg)$", re.IGNORECASE)


class _Finding(BaseModel):
    test_id: str
    issue_severity: Literal["UNDEFINED", "LOW", "MEDIUM", "HIGH"]
    issue_text: str
    filename: str
    line_number: int
    line_range: list[int] = []
    is_unexplained: bool = False
    """Whether a `# nosec` without a reason is about it."""

    @property
    def expected(self) -> bool:
        return self.test_id == ASSERT and bool(TESTS.search(_relative(self.filename)))

    def __str__(self) -> str:
        place = f"{_relative(self.filename)}:{self.line_number}"
        text = PASSWORD if self.test_id in PASSWORDS else " ".join(self.issue_text.split())
        comment = "; its `# nosec` gives no reason of two words or more" if self.is_unexplained else ""
        return f"{place}: {self.issue_severity.lower()}: {text} ({self.test_id}){comment}"


class _Error(BaseModel):
    filename: str
    reason: str


class _Metrics(BaseModel):
    loc: int = 0


class Report(BaseModel):
    """The part of bandit's JSON report that is used."""

    errors: list[_Error]
    metrics: dict[str, _Metrics]
    results: list[_Finding]
    silenced: dict[str, int] = {}
    """File → number of findings that comments declare harmless; bandit itself reports these too."""


def scan_source(tool: Tool, context: Path, now: Callable[[], datetime]) -> CheckResult:
    """Scan the Python files of a build context: medium and high findings fail, low ones warn.

    A link gives a file its name too: `helper.py` may lead to a text that Python then imports.
    Files that bandit did not read fail, because nothing is known about them; so do sources that are too large, and
    those that were not read within `LONGEST`. Compiled and packed Python files warn. Raises `CheckIncomplete` if bandit
    gives no answer.
    """
    started, end = now(), time.monotonic() + LONGEST
    names = _list_names(context)
    modules, startup, large = _list_sources(context, names)
    files, sources = sorted((*modules, *startup)), (*modules, *startup, *large)
    reports, late = _read_until(end, tool, context, modules)
    with make_scratch_directory("source") as work:
        for name in startup:
            _copy_startup(context / name, work / name)
        more, later = _read_until(end, tool, work, startup)
    reports, late = [*reports, *more], [*late, *later]
    passed, warned, failed = judge_reports(reports)
    return CheckResult(
        check=Check.SOURCE,
        passed=passed if reports or not sources else (),
        warned=(
            *warned,
            *describe_files(
                "compiled or packed file", "not read", [n for n in names if any(map(PACKED.search, names[n]))]
            ),
        ),
        failed=(
            *failed,
            *_find_unmentioned(sorted({*files} - {*late}), reports),
            *(f"{name}:1: larger than {LARGEST // 1024**2} MiB, not read" for name in large),
            *describe_files("file", f"not read within {LONGEST / 60:.0f} min", late),
        ),
        details={"files": len(files) - len(late)},
        tools=list_source_tools(tool),
        interval=Interval(started=started, finished=now()),
    )


@dataclass(frozen=True)
class ReadSources:
    """The files of a build context that `scan_source` reads whole, by their content. Read at the first call."""

    context: Path

    @cached_property
    def _digests(self) -> frozenset[str]:
        modules, _, _ = _list_sources(self.context, _list_names(self.context))
        return frozenset(hashlib.sha256((self.context / name).read_bytes()).hexdigest() for name in modules)

    def __call__(self, sha256: str) -> bool:
        """Return whether a file with this checksum is read."""
        return sha256 in self._digests


@dataclass(frozen=True)
class SourceScan:
    """Finds dangerous code in Python files outside of a build context."""

    tool: Tool

    def search_files(self, files: Mapping[str, bytes]) -> tuple[str, ...]:
        """Return a sentence for each medium and high finding, and for each file that bandit did not read."""
        end = time.monotonic() + LONGEST
        with make_scratch_directory("source") as work:
            names = {str(number): path for number, path in enumerate(files)}
            for name, path in names.items():
                (work / name).write_bytes(files[path])
            reports, late = _read_until(end, self.tool, work, list(names))
        failed = (*judge_reports(reports)[2], *_find_unmentioned([n for n in names if n not in late], reports))
        named = ((names[name], rest) for name, _, rest in (sentence.partition(":") for sentence in failed))
        return (*(f"{path}:{rest}" for path, rest in named), *(f"{names[n]}:1: not read in time" for n in late))


def list_source_tools(tool: Tool) -> dict[str, str]:
    """Return the tools that the check depends on, with their versions."""
    return {tool.name: tool.version, "source": SOURCE_VERSION}


def _list_names(context: Path) -> dict[str, set[str]]:
    """Return the files of a build context with all their names: their own, and those of links to them."""
    names = {name: {name} for name in list_files(context)}
    for link, name in list_links(context).items():
        names.get(name, set()).add(link)
    return names


def _list_sources(context: Path, names: Mapping[str, Collection[str]]) -> tuple[list[str], list[str], list[str]]:
    """Return the Python files of a build context: modules and scripts, startup files, and those that are too large."""
    sources = [name for name in names if _is_source(context / name, names[name])]
    files = [name for name in sources if (context / name).stat().st_size <= LARGEST]
    startup = [name for name in files if _is_startup(names[name])]
    modules = [name for name in files if name not in startup]
    return modules, startup, sorted(set(sources) - set(files))


def _is_module(names: Collection[str]) -> bool:
    return any(map(MODULE.search, names))


def _is_startup(names: Collection[str]) -> bool:
    return any(map(STARTUP_FILE.search, names)) and not _is_module(names)


def _copy_startup(file: Path, copy: Path) -> None:
    """Copy the lines that Python runs of a `.pth` file, with an empty line in place of each other."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(select_startup_lines(file.read_bytes()))


def _is_source(path: Path, names: Collection[str]) -> bool:
    """Return whether a file is Python, by one of its names, by the interpreter in its first line, or by its content.

    A `.pth` file counts if Python runs a line of it. Models of PyTorch have such names too.
    """
    if _is_module(names):
        return True
    with path.open("rb") as file:
        if _is_startup(names):
            pieces = iter(partial(file.readline, LARGEST), b"")
            return any(STARTUP.search(line) for piece in pieces for line in piece.splitlines())
        start = file.readline(1000)
        return is_python_program(start) or is_python_text(start + file.read(LARGEST_TEXT))


def _find_unmentioned(files: Sequence[str], reports: Sequence[Report]) -> tuple[str, ...]:
    """Return a sentence for each file that bandit's reports do not mention: bandit skips some files silently."""
    mentioned = {_relative(name) for r in reports for name in (*r.metrics, *(e.filename for e in r.errors))}
    return tuple(f"{name}:1: not scanned: it is not in bandit's report" for name in files if name not in mentioned)


def _read_until(end: float, tool: Tool, directory: Path, files: Sequence[str]) -> tuple[list[Report], list[str]]:
    """Return bandit's reports about the files, and the files that it did not read before `end` (monotonic)."""
    reports, late = list[Report](), list[str]()
    for portion in split_arguments(files):
        left = end - time.monotonic()
        report = _report(tool, directory, portion, left) if left > 0 else None
        if report is None:
            late += map(_relative, portion)
        else:
            reports.append(report)
    return reports, late


def _report(tool: Tool, directory: Path, files: list[str], timeout: float) -> Report | None:
    """Return bandit's report about the files; None if it took longer than `timeout` seconds."""
    arguments = ("--quiet", "--ignore-nosec", "--format", "json", "--exclude", "", *files)
    try:
        done = tool.run(*arguments, cwd=directory, timeout=timeout, check=False, memory=MEMORY)
    except ToolTimedOut:
        return None
    if done.status not in (0, 1):  # 1: there are findings
        raise CheckIncomplete(
            f"bandit ended with status {done.status}: {done.stderr[-1000:].strip()}\n"
            "Check it with `cscm doctor`, and look at its output in the log."
        )
    return _apply_comments(parse_report(done.stdout), directory)


def _apply_comments(report: Report, directory: Path) -> Report:
    """Return the report without the findings that a comment with a reason declares harmless; count these."""
    findings, silenced = list[_Finding](), Counter[str]()
    read = cache(lambda name: read_comments((directory / name).read_bytes()))
    for each in report.results:
        comments = (read(each.filename).get(line) for line in {each.line_number, *each.line_range})
        about = [comment for comment in comments if comment and comment.covers(each.test_id)]
        if any(comment.has_reason for comment in about):
            silenced[_relative(each.filename)] += 1
        else:
            findings.append(each.model_copy(update={"is_unexplained": bool(about)}))
    return report.model_copy(update={"results": findings, "silenced": dict(silenced)})


def parse_report(text: str) -> Report:
    """Parse bandit's JSON; raise `CheckIncomplete` if it cannot be read."""
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise CheckIncomplete(
            f"bandit's report cannot be read: {error.errors()[0]['msg']}\nCheck its version with `cscm doctor`."
        ) from error


def judge_reports(reports: Iterable[Report]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return sentences (passed, warned, failed) from all reports about a context."""
    passed: list[str] = []
    warned: list[str] = []
    failed: list[str] = []
    for report in reports:
        unread = {error.filename for error in report.errors}
        files = {name: metrics for name, metrics in report.metrics.items() if name not in ("_totals", *unread)}
        passed.append(f"bandit read {sum(m.loc for m in files.values())} lines in {len(files)} files")
        failed += [f"{_relative(e.filename)}:1: not scanned: {e.reason}" for e in report.errors]
        warned += (
            f"{name}: comments silence {pluralize(count, 'finding')}" for name, count in sorted(report.silenced.items())
        )
        for finding in report.results:
            if finding.issue_severity in ("MEDIUM", "HIGH"):
                failed.append(str(finding))
            elif not finding.expected:
                warned.append(str(finding))
    return tuple(passed) or ("no Python sources",), tuple(warned), tuple(failed)


def _relative(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name
