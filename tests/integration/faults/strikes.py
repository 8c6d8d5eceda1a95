"""Strikes: which part of the supply chain is killed, at which step, and how that is done from outside."""

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
from tests.support.command import PATIENCE, Run, cscm
from tests.support.waiting import eventually

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
"""The steps of a chain, as its lines on standard error name them."""


class Victim(StrEnum):
    """What is killed."""

    FLOW = "flow"
    ENGINE = "engine"
    EMULATOR = "emulator"
    PREFECT = "prefect"


@dataclass(frozen=True)
class Strike:
    """A kill -9 of the victim, `moment` of the step's usual time after its begin (0 to 1)."""

    victim: Victim
    step: str
    moment: float

    def __str__(self) -> str:
        return f"{self.victim} in {self.step}"


def drawn(seed: int, victims: tuple[Victim, ...], *, all_of_them: bool) -> list[Strike]:
    """Every victim at every step, or each once at a step that the seed chooses."""
    chance = random.Random(seed)
    if all_of_them:
        return [Strike(victim, step, chance.random()) for step in STEPS for victim in victims]
    return [Strike(victim, chance.choice(STEPS), chance.random()) for victim in victims]


def victims(home: Home) -> tuple[Victim, ...]:
    """What may be killed: the engine only where `cscm up` started it, as it is not ours otherwise."""
    record = read_record(home.run / "engine.json")
    ours = record is not None and record.alive()
    return tuple(victim for victim in Victim if victim is not Victim.ENGINE or ours)


def reach(run: Run, strike: Strike, begun: Callable[[], bool], usual: Mapping[str, float]) -> None:
    """Wait until the step is under way, and as long as the strike's moment says; `begun` is about the first."""
    number = STEPS.index(strike.step)
    under_way = begun if number == 0 else (lambda: STEPS[number - 1] in run.steps)
    eventually(lambda: run.over or under_way(), PATIENCE, run.told)
    assert not run.over, run.told()
    until = time.monotonic() + strike.moment * usual[strike.step]
    while time.monotonic() < until and strike.step not in run.steps:
        time.sleep(0.01)


def kill(victim: Victim, run: Run, home: Home) -> None:
    """kill -9."""
    if victim is Victim.FLOW:
        run.kill()
        return
    record = read_record(home.run / f"{victim}.json")
    assert record is not None and record.alive(), f"{victim} does not run"
    os.kill(record.pid, signal.SIGKILL)


def up() -> None:
    """What a person does who finds something not running."""
    ran = cscm("up", timeout=PATIENCE)
    assert ran.status == 0, ran.stdout + ran.stderr
