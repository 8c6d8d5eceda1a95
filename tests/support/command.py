"""The command as a person runs it: to its end, or followed while it runs."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestration.project import MARKER, PROJECT
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
"""The project's."""
CSCM = Path(sys.executable).with_name("cscm")
STEP = re.compile(r"^[a-z0-9-]+: (?P<step>.+?) \((?P<seconds>[0-9.]+) s\) ")


def copy_deployments(project: Path) -> None:
    """Copy `deployments/` of the last commit to a project: tests on the laptop change the working copy for a while."""
    command = ["git", "archive", "HEAD", "deployments"]
    archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(project, filter="data")


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Any:
        """What it printed, read as JSON where it is that."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return self.stdout

    @property
    def error(self) -> str:
        """What it says at its end."""
        return self.stderr[self.stderr.find("error: ") :] if "error: " in self.stderr else self.stderr[-3000:]

    def code(self) -> str:
        """The code of the error that it ended with."""
        assert self.status == 1, (self.stdout, self.stderr)
        return self.stderr.rstrip().rpartition("[")[2].rstrip("]")

    def reasons(self) -> set[str]:
        """The codes of the refusal that it ended with."""
        assert self.status == 3, self.stderr
        return {reason["code"] for reason in self.result["reasons"]}


def cscm(
    *args: str,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
    under: Sequence[str] = (),
    cwd: Path = ROOT,
) -> Ran:
    """Run the command to its end; `under` are the words of a program that is to run it."""
    here = {PROJECT: str(cwd)} if (cwd / MARKER).is_file() else {}
    everything = {**os.environ, **here, **(environment or {})}
    done = subprocess.run(
        [*under, str(CSCM), *args], cwd=cwd, env=everything, capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass
class Run:
    """`cscm chain` in a process of its own and not in a fork, followed by the lines that it writes."""

    path: Path
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        words = [sys.executable, "-m", "cscm.main", "chain", str(self.path), "--json", *self.options]
        self.process = subprocess.Popen(
            words, cwd=ROOT, env={**os.environ, **self.environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._output = ""
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
            self._output = stream.read()

    @property
    def steps(self) -> dict[str, float]:
        """The steps that have ended, with their seconds."""
        found = filter(None, map(STEP.match, list(self.lines)))
        return {match["step"]: float(match["seconds"]) for match in found}

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """kill -9 of this process alone, not of what it started."""
        os.kill(self.process.pid, signal.SIGKILL)

    def end(self, seconds: float = PATIENCE) -> Ran:
        """Wait until it has ended."""
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return Ran(status, self._output, "\n".join(self.lines))

    def last_lines(self) -> str:
        return "\n".join(self.lines[-30:])


Chain = Callable[[str], Ran]
