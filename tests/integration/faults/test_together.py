"""Runs at once: of one application as if one after the other, of two applications side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.application import Application
from tests.support.command import Run
from tests.support.eyes import Eyes

pytestmark = pytest.mark.real


def results(*runs: Run) -> list[dict[str, Any]]:
    """What each deployed."""
    found = [run.end() for run in runs]
    assert [ran.status for ran in found] == [0] * len(runs), [run.told() for run in runs]
    return [ran.result for ran in found]


def test_two_runs_of_one_revision_do_its_work_once(application: Callable[[str], Application], eyes: Eyes) -> None:
    """The second finds proven what the first did, whichever comes first."""
    app = application("interrupted")
    revision = app.next_revision()

    first, second = results(app.chain(), app.chain())

    assert (first["digest"], first["container"]) == (second["digest"], second["container"])
    assert sorted([first["changed"], second["changed"]]) == [False, True]
    eyes.all_is_well(app.name, app.url, revision, first)


def test_two_runs_of_two_revisions_end_with_one_of_them(application: Callable[[str], Application], eyes: Eyes) -> None:
    """Both are curated, and what was deployed last runs, alone and as recorded."""
    app = application("interrupted")
    revisions = [app.next_revision(), app.next_revision()]

    both = results(*(app.chain("--revision", revision) for revision in revisions))

    curated = eyes.tagged(f"curated/{app.name}")
    assert {each["digest"] for each in both} <= set(curated.values())
    running = eyes.running(app.name).id
    last = next(number for number, each in enumerate(both) if each["container"] == running)
    eyes.all_is_well(app.name, app.url, revisions[last], both[last])


def test_two_applications_run_side_by_side(application: Callable[[str], Application], eyes: Eyes) -> None:
    """Neither waits for the other: each is under way while the other is."""
    apps = [application("interrupted"), application("beside")]
    revisions = [app.next_revision() for app in apps]

    runs = [app.chain() for app in apps]
    deployed = results(*runs)

    assert max(run.times[0] for run in runs) < min(run.times[-1] for run in runs)
    for app, revision, deployment in zip(apps, revisions, deployed, strict=True):
        eyes.all_is_well(app.name, app.url, revision, deployment)
