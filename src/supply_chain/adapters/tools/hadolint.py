"""Checks Dockerfiles with hadolint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from supply_chain.adapters.process.command import Tool
from supply_chain.errors import CheckIncomplete
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.model.image import Interval
from supply_chain.model.tier import BASES
from supply_chain.scratch import make_scratch_directory

TIMEOUT = 60.0
MEMORY = 1024**3
"""Maximum bytes of memory that hadolint may use."""

LINT_VERSION = "3"
"""Version of this check. Raise it when more is reported, so that files that were checked before are checked again."""

PINNED_BY_THE_CHAIN = "DL3006"
"""Code for a base without a tag. The build resolves a curated base to its digest, so that it needs no tag."""

ADVICE = {"DL3002": "end with USER and a number other than 0"}
"""What to do about findings whose messages do not say it."""

CURATED = re.compile(rf"^\s*FROM\s+(--\S+\s+)*{BASES}/", re.IGNORECASE)
IGNORE = re.compile(r"^\s*#\s*hadolint\s+(?:global\s+)?ignore\s*=\s*(?P<codes>\S.*)$", re.IGNORECASE)
PRAGMA = re.compile(r"#\s*(?P<text>(?:hadolint|shellcheck)\s[^=]{0,200}=.*)$", re.IGNORECASE)
"""A comment that hadolint or its ShellCheck obeys, such as `# hadolint shell=pwsh` and, also in a heredoc or at the end
of a line, `# shellcheck disable=all`.
"""
SHELL = re.compile(
    r"^\s*(?P<text>(?i:SHELL)\s(?!\s*\[\s*\"(?:/usr)?(?:/bin/)?(?:ba|da|k|a)?sh\").*"
    r"|#!(?!(?:/bin/|/usr/bin/env )(?:ba|k)?sh(?:\s|$)).*)$"
)
"""An instruction or a heredoc's first line that names a shell whose commands hadolint may not give to ShellCheck."""


EXEC = re.compile(r"^(?P<begin>[ \t]*RUN[ \t]+(?:--\S+[ \t]+)*)(?P<words>\[.*\])[ \t]*$", re.IGNORECASE | re.MULTILINE)
"""A command in exec form, in one line."""
POSIX_SHELL = re.compile(r"(?:(?:/usr)?/bin/)?(?:a|da)?sh")


class _Finding(BaseModel):
    code: str
    level: Literal["error", "warning", "info", "style"]
    line: int
    message: str

    def __str__(self) -> str:
        advice = f": {ADVICE[self.code]}" if self.code in ADVICE else ""
        return f"line {self.line}: {' '.join(self.message.split())}{advice} ({self.code})"


_FINDINGS = TypeAdapter(list[_Finding])


def lint_dockerfile(tool: Tool, dockerfile: Path, now: Callable[[], datetime]) -> CheckResult:
    """Check a Dockerfile with hadolint's rules: errors and warnings fail, the rest warns.

    A file that is not a Dockerfile fails. Raises `CheckIncomplete` if hadolint gives no answer.
    """
    started = now()
    with make_scratch_directory("hadolint") as work:
        config = work / "none.yaml"
        config.write_text("{}\n")  # so that no other configuration is found and used
        options = ("--config", config, "--no-fail", "--format", "json")
        text = dockerfile.read_text(encoding="utf-8", errors="replace") if dockerfile.is_file() else ""
        read = dockerfile
        if (changed := EXEC.sub(_use_shell_form, text)) != text:
            read = work / "Dockerfile"
            read.write_text(changed, encoding="utf-8")
        done = tool.run(*options, read, timeout=TIMEOUT, check=False, memory=MEMORY)
    if done.status != 0:
        raise CheckIncomplete(
            f"hadolint ended with status {done.status}: {done.stderr[-1000:].strip()}\n"
            f"Check that {dockerfile} can be read and that `cscm doctor` finds hadolint."
        )
    passed, warned, failed = parse_report(done.stdout, text)
    return CheckResult(
        check=Check.DOCKERFILE,
        passed=passed,
        warned=warned,
        failed=failed,
        tools=list_lint_tools(tool),
        interval=Interval(started=started, finished=now()),
    )


def _use_shell_form(match: re.Match[str]) -> str:
    """Return a command of a POSIX shell in shell form, because hadolint reads no script in exec form.

    Any other command stays as it is: another shell has another language, and an instruction keeps its lines.
    """
    try:
        words = json.loads(match["words"])
    except ValueError:
        return match[0]
    if len(words) != 3 or not all(isinstance(word, str) for word in words):
        return match[0]
    shell, option, script = words
    fits = POSIX_SHELL.fullmatch(shell) and re.fullmatch(r"-[aefuvx]*c", option) and script.strip().isprintable()
    if (
        not fits
        or not script.strip()
        or script.lstrip().startswith(("[", "--", "<<"))
        or script.rstrip().endswith("\\")
    ):
        return match[0]
    return f"{match['begin']}{script.strip()}"


def list_lint_tools(tool: Tool) -> dict[str, str]:
    """Return the tools that the check depends on, with their versions."""
    return {tool.name: tool.version, "lint": LINT_VERSION}


def parse_report(report: str, dockerfile: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return sentences (passed, warned, failed) from hadolint's JSON about a Dockerfile's text.

    Raises `CheckIncomplete` if the report cannot be read.
    """
    try:
        findings = _FINDINGS.validate_json(report)
    except ValidationError as error:
        raise CheckIncomplete(
            f"hadolint's report cannot be read: {error.errors()[0]['msg']}\nCheck its version with `cscm doctor`."
        ) from error
    lines = dockerfile.splitlines()
    passed, warned, failed = [f"hadolint read {len(lines)} lines"], _find_ignored(lines), []
    for finding in findings:
        if finding.code == PINNED_BY_THE_CHAIN and CURATED.match("\n".join(lines[finding.line - 1 : finding.line])):
            passed.append(f"line {finding.line}: a curated base, pinned to its digest by the build")
        elif finding.level in ("error", "warning"):
            failed.append(str(finding))
        else:
            warned.append(str(finding))
    return tuple(passed), tuple(warned), tuple(failed)


def _find_ignored(lines: list[str]) -> list[str]:
    """Return a sentence for each line of the Dockerfile that silences a rule of hadolint or of ShellCheck."""
    sentences = ((number, _describe_silence(line)) for number, line in enumerate(lines, 1))
    return [f"line {number}: {sentence}" for number, sentence in sentences if sentence]


def _describe_silence(line: str) -> str:
    """Return how a line changes what is checked; an empty string if it does not."""
    if match := IGNORE.match(line):
        return f"a comment silences {match['codes'].strip()}"
    if match := PRAGMA.search(line):
        return f"a comment changes what is checked: {match['text'].strip()}"
    if match := SHELL.match(line):
        return f"ShellCheck may not read commands of this shell: {match['text'].strip()}"
    return ""
