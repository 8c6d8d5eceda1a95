"""detect-secrets: what should not be in a build context. A secret itself is never repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from supply_chain.adapters.command import Tool
from supply_chain.adapters.context_files import context_files, portions
from supply_chain.errors import CheckNotMade
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.image import Interval

TIMEOUT = 300.0

PRAGMA = b"allowlist"
"""Only files with it are asked for what they declare; detect-secrets fails on an empty one."""


class _Finding(BaseModel):
    type: str
    line_number: int


class _Report(BaseModel):
    results: dict[str, list[_Finding]]


def find_secrets(tool: Tool, directory: Path, now: Callable[[], datetime]) -> CheckResult:
    """Look through every file of a build context: what looks like a secret fails.

    What a comment declares to be none (`pragma: allowlist secret`) warns. Nothing is sent anywhere to be
    tried. Raises `CheckNotMade` when detect-secrets gives no answer.
    """
    started = now()
    files = context_files(directory)
    texts = tuple(name for name in files if _is_text(directory / name))
    pragmas = tuple(name for name in texts if PRAGMA in (directory / name).read_bytes())
    failed = _found(tool, directory, texts)
    declared = _found(tool, directory, pragmas, "--only-allowlisted")
    return CheckResult(
        check=Check.SECRETS,
        passed=(f"detect-secrets read {len(texts)} files; {len(files) - len(texts)} are binary",) if texts else (),
        warned=tuple(f"{each}, which a comment declares to be none" for each in declared)
        if texts
        else ("The build context holds no text.",),
        failed=tuple(failed),
        details={"files": len(files), "binary": sorted(set(files) - set(texts))[:100]},
        tools={tool.name: tool.version},
        interval=Interval(started=started, finished=now()),
    )


def _is_text(path: Path) -> bool:
    """detect-secrets leaves out what is not UTF-8 without a word."""
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _found(tool: Tool, directory: Path, files: Sequence[str], *options: str) -> list[str]:
    reports = (_scan(tool, directory, portion, *options) for portion in portions(files))
    return [sentence for report in reports for sentence in sentences(report)]


def _scan(tool: Tool, directory: Path, files: Sequence[str], *options: str) -> str:
    done = tool.run("scan", "--no-verify", "--all-files", *options, *files, cwd=directory, timeout=TIMEOUT, check=False)
    if done.status != 0:
        raise CheckNotMade(
            f"detect-secrets ended with status {done.status}: {done.stderr[-1000:].strip()}\n"
            "Check it with `cscm doctor`, and look at its output in the log."
        )
    return done.stdout


def sentences(report: str) -> tuple[str, ...]:
    """One sentence for each place that a report names, with all that was seen there."""
    try:
        results = _Report.model_validate_json(report).results
    except ValidationError as error:
        raise CheckNotMade(
            f"detect-secrets' report cannot be read: {error.errors()[0]['msg']}\nCheck its version with `cscm doctor`."
        ) from error
    places: dict[tuple[str, int], set[str]] = {}
    for name, findings in results.items():
        for finding in findings:
            places.setdefault((name.removeprefix("./"), finding.line_number), set()).add(finding.type)
    return tuple(f"{name}:{line}: {', '.join(sorted(types))}" for (name, line), types in sorted(places.items()))
