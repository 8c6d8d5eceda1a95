"""Runs that wait without using a slot of their work queue."""

from datetime import timedelta

import pytest

from orchestration.waiting_runs import LONGEST_RETRY, RETRY_AFTER, find_pause


@pytest.mark.parametrize(
    ("attempts", "pause"), [(0, RETRY_AFTER), (1, RETRY_AFTER), (3, 3 * RETRY_AFTER), (1000, LONGEST_RETRY)]
)
def test_pause_of_waiting_run_grows_up_to_limit(attempts: int, pause: timedelta) -> None:
    """Each attempt takes a slot for some seconds; a run that may go on must not wait for hours."""
    assert find_pause(attempts) == pause
