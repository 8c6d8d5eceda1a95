"""The tutorials: their commands are run as written and print what the pages say."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from supply_chain.policy.loading import DIRECTORY, ENVIRONMENTS
from tests.support.command import ROOT
from tests.support.pages import find_mistakes, read_steps, run_steps
from tests.support.signed_project import sign_project, withdraw_signature

pytestmark = pytest.mark.real

PAGES = [
    (ROOT / "docs/tutorial.md", "## Write an application"),
    (ROOT / "docs/tutorial-rule.md", "## Write the rule"),
    *([(ROOT / "docs/tutorial-kubernetes.md", "## Add an environment")] if os.geteuid() == 0 else []),
]
"""Each tutorial, with the heading where its commands begin; they continue the first. Only root starts a cluster."""
CLONE = "PROJECT=$(dirname $(which cscm))/../../.."


@pytest.fixture
def shipped_policies(home: Home) -> Iterator[None]:
    """Policies and environments are as they ship, also after a failure, and nobody signed anything."""
    withdraw_signature()
    yield
    (ROOT / DIRECTORY / "scans.yaml").unlink(missing_ok=True)
    (ROOT / ENVIRONMENTS / "training.yaml").unlink(missing_ok=True)
    sign_project(home)


def test_tutorial_commands_print_what_the_tutorials_show(
    frozen_again: None, shipped_policies: None, tmp_path: Path
) -> None:
    """They lead from a file to a signed image, a refusal by a new rule and one by a cluster, and end each freeze."""
    steps = [step for page, begin in PAGES for step in read_steps(page, begin)]
    clone = tmp_path / "container-supply-chain"
    clone.mkdir()
    # an image from an earlier run of this test would already be proven
    greeting = f"Greets whoever asks, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S}."

    started = time.monotonic()
    printed = run_steps(steps, clone, {"Greets whoever asks.": greeting, CLONE: f"PROJECT={ROOT}"})
    seconds = time.monotonic() - started

    assert [*find_mistakes(steps, printed)] == []
    assert sum(len(step.printed) for step in steps) > 15
    print(f"{seconds:.0f} s")
