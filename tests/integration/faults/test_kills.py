"""Parts that are killed at any step: the next run finishes, and nothing is duplicated, lost or left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import pytest

from cscm_laptop.home import Home
from tests.support.application import Application
from tests.support.command import ROOT
from tests.support.eyes import Eyes

from .kills import Kill, choose_kills, find_victims, reach, send_kill, up

pytestmark = pytest.mark.real

SEED = int(os.environ.get("CSCM_SEED") or time.time())
KILLS = choose_kills(SEED, find_victims(Home.find(start=ROOT)), all_of_them=os.environ.get("CSCM_FAULTS") == "all")
"""Each victim once, at a step and moment that the seed chooses; with CSCM_FAULTS=all, each at every step."""


@pytest.fixture(scope="module")
def interrupted(application: Callable[[str], Application]) -> Application:
    return application("interrupted")


@pytest.fixture(scope="module")
def usual(interrupted: Application) -> Mapping[str, float]:
    """The duration in seconds of each step without a fault; a deployment serves afterwards."""
    interrupted.next_revision()
    run = interrupted.chain()
    assert run.end().status == 0, run.last_lines()
    return run.steps


@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_next_run_completes_killed_run(
    interrupted: Application,
    usual: Mapping[str, float],
    eyes: Eyes,
    home: Home,
    kill: Kill,
    record_property: Callable[[str, object], None],
) -> None:
    """The previous deployment serves all the time, and the result equals that of an undisturbed run."""
    for name, value in (("seed", SEED), ("victim", kill.victim), ("step", kill.step)):
        record_property(name, value)
    revision = interrupted.next_revision()
    run = interrupted.chain()
    reach(run, kill, lambda: eyes.begun("interrupted", run.started), usual)
    send_kill(kill.victim, run, home)

    for _ in range(3):
        assert eyes.answers(interrupted.url), "the deployment before does not serve"
    up()
    status = run.end().status
    record_property("ended", {-9: "killed,", 0: "went on,"}.get(status, "failed,"))
    print(f"CSCM_SEED={SEED}, {kill} at {kill.moment:.2f}: it ended with {status}\n{run.last_lines()}")
    eyes.nothing_runs_on()
    again = interrupted.chain()
    ended = again.end()
    assert ended.status == 0, again.last_lines()
    eyes.all_is_well(interrupted.name, interrupted.url, revision, ended.result)
