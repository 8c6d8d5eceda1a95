"""Resources of killed runs are released within their lease, even if no later run of the application follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestration.registration.abandoned_runs import LEASE
from tests.support.access import Prefect
from tests.support.application import Application
from tests.support.command import PATIENCE, Run
from tests.support.eyes import Eyes
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

SWEEP = "sweep/every-5-minutes"


def killed(app: Application, eyes: Eyes, step: str) -> Run:
    """Start a run of a new revision and kill it during a step."""
    app.next_revision()
    run = app.chain()

    def under_way() -> bool:
        return any(" build " in each for each in eyes.processes()) if step == "build" else "build" in run.steps

    eventually(lambda: run.over or under_way(), PATIENCE, run.told)
    assert not run.over, run.told()
    assert step not in run.steps, run.told()
    run.kill()
    run.end()
    return run


def test_resources_of_killed_runs_are_released_without_another_run(
    application: Callable[[str], Application], eyes: Eyes, prefect: Prefect
) -> None:
    """Commands end at once; slots, containers, networks and images with the sweep; run states with the lease.

    One application is killed in its build and another in its tests; both wait for the same lease.
    """
    apps = {"build": application("interrupted"), "test": application("beside")}
    runs = {step: killed(app, eyes, step) for step, app in apps.items()}

    eyes.nothing_runs_on()
    assert prefect.ended(prefect.start(SWEEP))["state_type"] == "COMPLETED"
    for app in apps.values():
        assert not eyes.left_in_the_engine(app.name)
        assert not [limit for limit in eyes.slots() if limit.endswith(f" {app.name}")]

    def running() -> list[str]:
        return [step for step, app in apps.items() if eyes.begun(app.name, runs[step].started)]

    eventually(lambda: not running(), LEASE + 60, running)
