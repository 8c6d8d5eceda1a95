"""A git push starts a chain: the hook schedules it, and the worker builds the pushed revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.access import Prefect
from tests.support.application import Application, git
from tests.support.command import cscm
from tests.support.waiting import eventually

pytestmark = pytest.mark.real
NAME = "pushed"
LAST = {"sort": "START_TIME_DESC", "limit": 20}


def test_push_starts_a_chain_of_the_pushed_revision(
    bases: None, unfrozen: None, program: Path, tmp_path: Path, prefect: Prefect
) -> None:
    """Later changes of the working copy are not built. The tests of the pushed revision fail, so its chain is short."""
    work, remote = tmp_path / NAME, tmp_path / "remote.git"
    application = Application(NAME, work)
    application.write(program, "staging")
    declaration = work / "supply-chain.yaml"
    declaration.write_text(declaration.read_text().replace("status-0", "crash"))
    git(work, "checkout", "--quiet", "-B", "main")
    revision = application.next_revision()
    git(tmp_path, "init", "--bare", "--quiet", str(remote))
    git(work, "remote", "add", "origin", str(remote))
    assert cscm("hook", "install", str(work)).status == 0
    declaration.write_text("rubbish: true\n")

    git(work, "push", "--quiet", "origin", "main")
    run = _finished(prefect, revision)

    assert run["name"] == f"chain {NAME} {revision[:7]}"
    assert run["state_name"] == "Refused", run["state"]["message"]
    assert git(remote, "rev-parse", "main") == revision


def _finished(prefect: Prefect, revision: str) -> dict[str, Any]:
    def ended() -> list[dict[str, Any]]:
        return [
            run
            for run in prefect.ask("flow_runs/filter", {"flow_runs": {"name": {"like_": "chain "}}, **LAST})
            if run["parameters"].get("revision") == revision
            if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")
        ]

    found = eventually(ended, describe=lambda: f"no chain of {revision} ended")
    return dict(found[0])
