"""Alerts of the Prefect server: late runs, lost workers, and rescans after an advisory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from cscm_laptop.home import Home
from cscm_laptop.prefect_server import run_environment
from cscm_laptop.profile import load_profile
from tests.support.access import Prefect
from tests.support.command import ROOT, cscm
from tests.support.waiting import eventually

pytestmark = pytest.mark.real
LOST = 240.0
"""Seconds until the server reports a lost worker: three heartbeats of 30 s each, and a margin."""


def completed_alerts(prefect: Prefect, what: str, about: str) -> list[dict[str, Any]]:
    """Return the completed alerts of a kind about something."""
    found = prefect.ask(
        "flow_runs/filter", {"flows": {"name": {"any_": ["alert"]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 50}
    )
    return [
        run
        for run in found
        if run["state_name"] == "Completed"
        and run["parameters"]["summary"] == what
        and about in run["parameters"]["about"]
    ]


@pytest.fixture
def pool(prefect: Prefect, home: Home) -> Iterator[str]:
    """A work pool whose worker ran once and is gone."""
    name = f"absent-{uuid.uuid4().hex[:8]}"
    prefect.ask("work_pools/", {"name": name, "type": "process", "base_job_template": {}})
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", name, "--type", "process"],
        env={**os.environ, **run_environment(home, load_profile(ROOT))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: prefect.get(f"work_pools/{name}")["status"] == "READY")
    finally:
        worker.kill()
        worker.wait()
    yield name
    prefect.delete(f"work_pools/{name}")


def test_late_run_and_lost_worker_raise_alerts(prefect: Prefect, pool: str) -> None:
    """Each has its own alert, which names the run or the work pool."""
    flow = prefect.ask("flows/", {"name": "nobody runs it"})
    deployment = prefect.ask(
        "deployments/", {"name": pool, "flow_id": flow["id"], "work_pool_name": pool, "tags": ["by-event"]}
    )
    run = prefect.ask(
        f"deployments/{deployment['id']}/create_flow_run", {"name": f"late {pool}", "state": {"type": "SCHEDULED"}}
    )

    eventually(lambda: completed_alerts(prefect, "a run did not start", run["name"]))
    eventually(lambda: completed_alerts(prefect, "a work pool has no worker", pool), LOST)
    prefect.delete(f"deployments/{deployment['id']}")


def test_advisory_starts_a_rescan_of_images_with_its_packages(prefect: Prefect, bases: None) -> None:
    """Images without the packages are skipped."""
    package = f"nobody-has-{uuid.uuid4().hex[:8]}"
    assert cscm("events", "advisory", "TEST-1", package).status == 0

    def rescans() -> list[dict[str, Any]]:
        found = prefect.ask(
            "flow_runs/filter",
            {"flows": {"name": {"any_": ["rescan"]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 20},
        )
        return [run for run in found if run["parameters"].get("packages") == [package] and run["end_time"]]

    (run,) = eventually(rescans)
    found = prefect.ask(
        "artifacts/filter",
        {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": ["rescan-packages-summary"]}}},
    )
    passed = re.search(r"images without the packages asked for \| (\d+) \|", found[0]["data"])
    assert passed and int(passed[1]) >= 2, found[0]["data"]
