"""Resources of killed runs are released at once, even if no later run of the application follows.

Their states follow with the lease: `test_run_states.py`, which comes last, so that other tests run while it ends.
"""

from __future__ import annotations

import pytest

from tests.support.access import Prefect
from tests.support.eyes import Eyes

from .kills import KilledRun

pytestmark = pytest.mark.real

SWEEP = "sweep/every-5-minutes"


def test_resources_of_killed_runs_are_released_without_another_run(
    killed: tuple[KilledRun, ...], eyes: Eyes, prefect: Prefect
) -> None:
    """Commands end at once; slots, containers, networks and images with the sweep."""
    names = [each.name for each in killed]

    eyes.nothing_runs_on()
    prefect.completed(SWEEP)
    for name in names:
        assert not eyes.left_in_the_engine(name)
        assert not [limit for limit in eyes.slots() if limit.endswith(f" {name}")]
