"""Strikes: which part of the supply chain is killed, at which step, and how that is done from outside."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from supply_chain.laptop.home import Home
from supply_chain.laptop.services import read_record

ROOT = Path(__file__).parents[3]
CSCM = Path(sys.executable).with_name("cscm")
STEPS = (
    "build",
    "test",
    "offer",
    "admission to curation",
    "store",
    "encrypt",
    "scan",
    "curation's own gate",
    "sign",
    "admission to execution",
    "deploy",
    "monitor",
)
"""The steps of a chain, as its lines on standard error name them."""
LINE = re.compile(r"^[a-z]+: (?P<step>.+?) \((?P<seconds>[0-9.]+) s\) ")
PATIENCE = 300.0
"""Seconds after which something will never come."""


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


@dataclass
class Run:
    """`cscm chain` in a process of its own, followed by the lines that it writes."""

    path: Path
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        words = [str(CSCM), "chain", str(self.path), "--json", *self.options]
        self.process = subprocess.Popen(
            words, cwd=ROOT, env={**os.environ, **self.environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._said = ""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._follow, self._read)]
        for reader in self._readers:
            reader.start()

    def _follow(self) -> None:
        assert self.process.stderr
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                self.times.append(time.monotonic())

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as stream:
            self._said = stream.read()

    @property
    def steps(self) -> dict[str, float]:
        """The steps that have ended, with their seconds."""
        found = filter(None, map(LINE.match, list(self.lines)))
        return {match["step"]: float(match["seconds"]) for match in found}

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """kill -9 of this process alone, not of what it started."""
        os.kill(self.process.pid, signal.SIGKILL)

    def end(self, seconds: float = PATIENCE) -> tuple[int, str]:
        """Its status and what it wrote on standard output."""
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return status, self._said

    def told(self) -> str:
        return "\n".join(self.lines[-30:])


def eventually(holds: Callable[[], Any], seconds: float, said: Callable[[], object] = lambda: "") -> Any:
    """What `holds` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {said()}")


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
    done = subprocess.run([str(CSCM), "up"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
