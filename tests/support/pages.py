"""Pages of the documentation that tests run: files and commands as they are written, and what these print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import yaml

from supply_chain.policy.people import FILE
from tests.support.command import ROOT

FENCE = re.compile(r"^```(sh|text|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENT = re.compile(r"# (deployments/\S+\.yaml)\n")
"""The first line of a block that is a file of the project."""
DAY = re.compile(r"\b\d{4}-\d\d-\d\d(?=T)")
VARYING = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{12,64}\b…?|\d+(?:\.\d+)?")
"""Keys, digests and numbers, which differ each time."""
END = "--- the block ends here ---"


@dataclass(frozen=True)
class Step:
    """Commands of a page, and the lines that they print among others."""

    commands: str
    printed: tuple[str, ...] = ()


def read_steps(page: Path, begin: str = "", adapt: Callable[[str], str] = str) -> list[Step]:
    """Return each block of commands, and each file of the project as a command that writes it.

    `begin` is the heading after which they begin; `adapt` changes the content of files.
    """
    steps: list[Step] = []
    text = page.read_text(encoding="utf-8")
    for kind, content in FENCE.findall(text[text.index(begin) :]):
        if kind == "sh":
            steps.append(Step(content))
        elif kind == "text":
            steps[-1] = Step(steps[-1].commands, (*steps[-1].printed, *content.splitlines()))
        elif file := DOCUMENT.match(content):
            steps.append(Step(f"mkdir -p {Path(file[1]).parent} && cat > {file[1]} <<'END'\n{adapt(content)}END\n"))
    return steps


def read_files(page: Path) -> list[Path]:
    """Return the files of the project that a page writes."""
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    return [ROOT / file[1] for kind, content in blocks if kind == "yaml" and (file := DOCUMENT.match(content))]


def move_dates(text: str, days: int) -> str:
    """Return a text with each time so many days later."""
    return DAY.sub(lambda day: str(date.fromisoformat(day[0]) + timedelta(days)), text)


def use_keys(text: str, keys: Mapping[str, str]) -> str:
    """Return a document; if it is the people document, with these public keys of the people and issuers."""
    if not text.startswith(f"# {FILE}\n"):
        return text
    document = yaml.safe_load(text)
    for name, who in {**document["people"], **document.get("vex", {}).get("issuers", {})}.items():
        who["keys"] = [keys[name]]
    return yaml.safe_dump(document)


def run_steps(steps: Sequence[Step], directory: Path, changes: Mapping[str, str], **variables: str) -> list[str]:
    """Return what one shell prints for each step, with standard error; `changes` are made to the commands."""
    script = "".join(f"{step.commands}\necho '{END}'\n" for step in steps)
    for before, after in changes.items():
        assert before in script
        script = script.replace(before, after)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash"], input=script, cwd=directory, env={**os.environ, **variables, "PATH": path}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
    )  # fmt: skip
    return done.stdout.split(f"{END}\n")[:-1]


def find_mistakes(steps: Sequence[Step], printed: Sequence[str]) -> Iterator[str]:
    """Yield a text for each step whose output lacks lines of the page, in their order, or that did not run."""
    for number, step in enumerate(steps):
        if number >= len(printed):
            yield f"{step.commands}\ndid not run"
            continue
        lines = iter([_generalize(line) for line in printed[number].splitlines()])
        # a line that was passed is not searched again
        if missing := [line for line in step.printed if _generalize(line) not in lines]:
            yield f"{step.commands}\nprinted\n{printed[number]}\nwithout\n" + "\n".join(missing)


def _generalize(line: str) -> str:
    return VARYING.sub("#", line.replace(f"{ROOT}/", "…/").rstrip())
