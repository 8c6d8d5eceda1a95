"""What a killed run leaves is gone within its lease, also where no run of its application comes after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from supply_chain.adapters.registration.abandoned import LEASE
from tests.real.access import Prefect
from tests.real.application import Application
from tests.real.command import PATIENCE
from tests.real.eyes import Eyes
from tests.real.waiting import eventually

pytestmark = pytest.mark.real

SWEEP = "sweep/every-5-minutes"


@pytest.mark.parametrize("step", ["test"])  # each waits for the lease
def test_what_a_killed_run_left_is_gone_though_nobody_runs_it_again(
    application: Callable[[str], Application], eyes: Eyes, prefect: Prefect, step: str
) -> None:
    """Its commands at once; its slots, containers, networks and images with the sweep; its state with its lease."""
    app = application("beside")
    app.next_revision()
    run = app.chain()

    def under_way() -> bool:
        return eyes.begun(app.name, run.started) if step == "build" else "build" in run.steps

    eventually(lambda: run.over or under_way(), PATIENCE, run.told)
    assert not run.over, run.told()
    run.kill()
    run.end()

    eyes.nothing_runs_on()
    assert prefect.ended(prefect.start(SWEEP))["state_type"] == "COMPLETED"
    assert not eyes.left_in_the_engine(app.name)
    assert not [limit for limit in eyes.slots() if limit.endswith(f" {app.name}")]
    eventually(lambda: not eyes.begun(app.name, run.started), LEASE + 60)
