"""A push starts a chain: git's hook posts an event, and the worker builds exactly the pushed revision."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, cscm

pytestmark = pytest.mark.real


def git(directory: Path, *args: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *identity, *args], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_push_starts_a_chain_of_the_pushed_revision(bases: None, tmp_path: Path, prefect: Callable[..., Any]) -> None:
    """The files may have changed since: what was pushed is what is built."""
    work, remote = tmp_path / "careless", tmp_path / "remote.git"
    shutil.copytree(ROOT / "examples/careless", work)
    git(tmp_path, "init", "--bare", "--quiet", str(remote))
    git(work, "init", "--quiet", "--initial-branch=main")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "--message=first")
    git(work, "remote", "add", "origin", str(remote))
    assert cscm("hook", "install", str(work)).status == 0
    revision = git(work, "rev-parse", "HEAD")
    (work / "supply-chain.yaml").write_text("rubbish: true\n")

    git(work, "push", "--quiet", "origin", "main")
    run = _finished(prefect, revision)

    assert run["name"] == f"chain careless {revision[:7]}"
    assert run["state_name"] == "Refused", run["state"]["message"]
    assert git(remote, "rev-parse", "main") == revision


def _finished(prefect: Callable[..., Any], revision: str, timeout: float = 180) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = prefect("flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 20})
        for run in found:
            ours = run["parameters"].get("revision") == revision and run["name"].startswith("chain ")
            if ours and run["state_type"] in ("COMPLETED", "FAILED", "CRASHED"):
                return dict(run)
        time.sleep(1)
    raise AssertionError(f"no chain of {revision} ended within {timeout:.0f} s")
