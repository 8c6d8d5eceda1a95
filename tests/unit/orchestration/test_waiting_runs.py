"""Runs that wait without using a slot of their work queue."""

from datetime import timedelta

import pytest

from orchestration.waiting_runs import LONGEST_PAUSE, LONGEST_RETRY, RETRY_AFTER, find_pause


@pytest.mark.parametrize(
    ("count", "others", "pause"),
    [
        (0, 0, RETRY_AFTER),
        (1, 0, RETRY_AFTER),
        (3, 0, 3 * RETRY_AFTER),
        (1000, 0, LONGEST_RETRY),
        (1000, 1, LONGEST_RETRY),
        (1, 60, timedelta(minutes=10)),
        (1000, 60, timedelta(minutes=10)),
        (1, 10_000, LONGEST_PAUSE),
    ],
)
def test_each_pause_is_longer_up_to_a_limit(count: int, others: int, pause: timedelta) -> None:
    """Each attempt takes a slot for some seconds; a run that may go on must not wait for hours."""
    assert find_pause(count, others) == pause
