"""The tutorials: their commands are run as written and print what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supply_chain.policy.activation import LISTING
from supply_chain.policy.loading import DIRECTORY
from supply_chain.policy.signed_documents import signature_file
from tests.support.command import ROOT

pytestmark = pytest.mark.real

PAGES = [(ROOT / "docs/tutorial.md", "## Write an application"), (ROOT / "docs/tutorial-rule.md", "## Write the rule")]
"""Each tutorial, with the heading where its commands begin; the second one continues the first."""
CLONE = "PROJECT=../container-supply-chain"
FENCE = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARYING = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{12,64}\b…?|\d+(?:\.\d+)?")
"""Keys, digests and numbers, which differ each time."""


def steps() -> list[tuple[str, list[str]]]:
    """Return each block of commands with the output lines that the tutorials show."""
    found: list[tuple[str, list[str]]] = []
    for page, begin in PAGES:
        _, _, text = page.read_text(encoding="utf-8").partition(begin)
        for kind, content in FENCE.findall(text):
            if kind == "sh":
                found.append((content, []))
            else:
                found[-1][1].extend(content.splitlines())
    return found


def same(line: str) -> str:
    line = line.replace(f"{ROOT}/", "…/")
    return VARYING.sub("#", line.rstrip())


def run(commands: list[str], directory: Path) -> list[str]:
    """Return what one shell prints for each block, with standard error."""
    mark = "--- the block ends here ---"
    # an image from an earlier run of this test would already be proven
    greeting = f"Greets whoever asks, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S}."
    script = "".join(f"{block}\necho '{mark}'\n" for block in commands).replace("Greets whoever asks.", greeting)
    script = script.replace(CLONE, f"PROJECT={ROOT}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash"], input=script, cwd=directory, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
    )  # fmt: skip
    return done.stdout.split(f"{mark}\n")[:-1]


@pytest.fixture
def shipped_policies() -> Iterator[None]:
    """The project's policies are as they ship, also after a failure."""
    yield
    for file in (ROOT / DIRECTORY / "scans.yaml", signature_file(ROOT / DIRECTORY / LISTING)):
        file.unlink(missing_ok=True)


def test_tutorial_commands_print_what_the_tutorials_show(
    frozen_again: None, shipped_policies: None, tmp_path: Path
) -> None:
    """They lead from a file to a signed image, and from a rule to its refusal, and lift the freeze at their ends."""
    blocks = steps()
    clone = tmp_path / "container-supply-chain"
    clone.mkdir()

    started = time.monotonic()
    printed = run([commands for commands, _ in blocks], clone)
    seconds = time.monotonic() - started

    assert len(printed) == len(blocks)
    for (commands, expected), output in zip(blocks, printed, strict=True):
        lines = iter([same(line) for line in output.splitlines()])
        missing = [
            line for line in expected if same(line) not in lines
        ]  # the order matters: a line that was passed is not searched again
        assert missing == [], f"{commands}\nprinted\n{output}"
    assert sum(len(expected) for _, expected in blocks) > 15
    print(f"{seconds:.0f} s")
