"""Concurrent runs: those of one application are serialised, those of two applications run in parallel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.application import Application
from tests.support.command import Run
from tests.support.eyes import Eyes

pytestmark = pytest.mark.real


def results(*runs: Run) -> list[dict[str, Any]]:
    """Wait for the runs and return their deployments."""
    found = [run.end() for run in runs]
    assert [ran.status for ran in found] == [0] * len(runs), [run.last_lines() for run in runs]
    return [ran.result for ran in found]


def test_second_run_reuses_steps_and_other_application_is_parallel(
    application: Callable[[str], Application], eyes: Eyes
) -> None:
    """The later run of a revision reuses the proven steps of the earlier one; another application's steps overlap."""
    apps = [application("interrupted"), application("beside")]
    revisions = [app.next_revision() for app in apps]

    runs = [apps[0].chain(), apps[0].chain(), apps[1].chain()]
    first, second, other = results(*runs)

    assert (first["digest"], first["container"]) == (second["digest"], second["container"])
    assert sorted([first["changed"], second["changed"]]) == [False, True]
    parallel = [runs[0] if first["changed"] else runs[1], runs[2]]
    assert max(run.times[0] for run in parallel) < min(run.times[-1] for run in parallel)
    for app, revision, deployment in zip(apps, revisions, (first, other), strict=True):
        eyes.all_is_well(app.name, app.url, revision, deployment)


def test_two_runs_of_two_revisions_leave_the_last_deployment(
    application: Callable[[str], Application], eyes: Eyes
) -> None:
    """Both revisions are curated, and the recorded deployment is the one that runs."""
    app = application("interrupted")
    revisions = [app.next_revision(), app.next_revision()]

    both = results(*(app.chain("--revision", revision) for revision in revisions))

    curated = eyes.tagged(f"curated/{app.name}")
    assert {each["digest"] for each in both} <= set(curated.values())
    running = eyes.running(app.name).id
    last = next(number for number, each in enumerate(both) if each["container"] == running)
    eyes.all_is_well(app.name, app.url, revisions[last], both[last])
