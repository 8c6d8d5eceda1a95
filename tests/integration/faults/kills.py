"""Fault injection: which part of the supply chain is killed and at which step, from outside."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cscm_laptop.home import Home
from cscm_laptop.services import read_record
from tests.support.command import Run, cscm
from tests.support.waiting import PATIENCE, eventually

STEPS = (
    "build",
    "test",
    "offer",
    "intake gate",
    "store",
    "encrypt",
    "scan",
    "release gate",
    "sign",
    "deploy gate",
    "deploy",
    "monitor",
)
"""The steps of a chain, as its output on standard error names them."""


class Victim(StrEnum):
    """The process that is killed."""

    FLOW = "flow"
    ENGINE = "engine"
    EMULATOR = "emulator"
    PREFECT = "prefect"


@dataclass(frozen=True)
class Kill:
    """A `kill -9` of the victim during a step; `moment` is the fraction (0 to 1) of the step's usual duration."""

    victim: Victim
    step: str
    moment: float

    def __str__(self) -> str:
        return f"{self.victim} in {self.step}"


def choose_kills(seed: int, victims: tuple[Victim, ...], *, all_of_them: bool) -> list[Kill]:
    """Return every victim at every step, or each victim once at a step that the seed chooses."""
    chance = random.Random(seed)
    if all_of_them:
        return [Kill(victim, step, chance.random()) for step in STEPS for victim in victims]
    return [Kill(victim, chance.choice(STEPS), chance.random()) for victim in victims]


def find_victims(home: Home) -> tuple[Victim, ...]:
    """Return the possible victims; the engine is one only if `cscm up` started it."""
    record = read_record(home.run / "engine.json")
    ours = record is not None and record.is_alive()
    return tuple(victim for victim in Victim if victim is not Victim.ENGINE or ours)


def reach(run: Run, kill: Kill, begun: Callable[[], bool], usual: Mapping[str, float]) -> None:
    """Wait for the kill's moment in its step; `begun` tells whether the first step has begun."""
    number = STEPS.index(kill.step)
    under_way = begun if number == 0 else (lambda: STEPS[number - 1] in run.steps)
    eventually(lambda: run.over or under_way(), describe=run.last_lines)
    assert not run.over, run.last_lines()
    until = time.monotonic() + kill.moment * usual[kill.step]
    while time.monotonic() < until and kill.step not in run.steps:
        time.sleep(0.01)


def send_kill(victim: Victim, run: Run, home: Home) -> None:
    """Send SIGKILL to the victim."""
    if victim is Victim.FLOW:
        run.kill()
        return
    record = read_record(home.run / f"{victim}.json")
    assert record is not None and record.is_alive(), f"{victim} does not run"
    os.kill(record.pid, signal.SIGKILL)


def up() -> None:
    """Run `cscm up`, as a person does who finds something stopped."""
    ran = cscm("up", timeout=PATIENCE)
    assert ran.status == 0, ran.stdout + ran.stderr


@dataclass(frozen=True)
class KilledRun:
    """A run of an application that was killed; `started` and `ended` are times in seconds since the epoch."""

    name: str
    started: float
    ended: float
