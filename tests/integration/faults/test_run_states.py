"""Runs that were killed become Crashed within their lease, even if no later run of the application follows."""

from __future__ import annotations

import time

import pytest

from orchestration.registration.abandoned_runs import LEASE
from tests.support.eyes import Eyes
from tests.support.waiting import eventually

from .kills import KilledRun

pytestmark = pytest.mark.real

MARGIN = 60.0
"""Seconds from the end of the lease to the last change of a state."""


def test_killed_runs_are_crashed_within_their_lease(killed: tuple[KilledRun, ...], eyes: Eyes) -> None:
    """The lease began when they were killed, before the other tests of this directory."""

    def running() -> list[str]:
        return [run.name for run in killed if eyes.begun(run.name, run.started)]

    left = max(run.ended for run in killed) + LEASE + MARGIN - time.time()
    eventually(lambda: not running(), max(left, MARGIN), running)
