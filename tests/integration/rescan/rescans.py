"""Rescans of a fleet, with a count of the scanner's completed runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.fleet import Fleet
from supply_chain.adapters.process.command import Tool
from supply_chain.fleet.exposure import RescanResult, Unjudged
from supply_chain.fleet.image import FleetImage
from tests.integration.rescan.once import FOUND, Asked
from tests.support.command import ROOT
from tests.support.waiting import eventually


@dataclass
class Counted:
    """Grype with a log of completed runs."""

    grype: Tool
    directory: Path

    @property
    def program(self) -> Path:
        """The scanner."""
        return self._script("grype", "")

    def limited(self, number: int) -> Path:
        """The scanner, of which only `number` runs scan: each takes one directory, which no other run can take."""
        left = self.directory / "left"
        for each in range(number):
            (left / str(each)).mkdir(parents=True)
        return self._script(
            "limited", f'for each in "" {left}/*; do rmdir "$each" 2>/dev/null && break; done || exec sleep 600\n'
        )

    def _script(self, name: str, before: str) -> Path:
        path = self.directory / name
        path.write_text(
            f'#!/bin/sh\ncase "$1" in sbom:*) ;; *) exec {self.grype.path} "$@";; esac\n'
            f'{before}{self.grype.path} "$@"; status=$?\n'
            f'sha256sum "${{1#sbom:}}" | cut -c1-64 >> {self.directory}/ran\nexit $status\n'
        )
        path.chmod(0o755)
        (self.directory / "ran").touch()
        return path

    @property
    def ran(self) -> list[str]:
        """The SHA-256 of the SBOM of each completed run."""
        return (self.directory / "ran").read_text().split()


@dataclass
class Rescans:
    """Runs of the rescan, each in its own process."""

    fleet: Fleet
    counted: Counted
    database: Path
    work: Path

    def _start(self, images: Sequence[FleetImage], program: Path) -> subprocess.Popen[bytes]:
        asked = self.work / "asked.json"
        asked.write_text(
            Asked(
                host=self.fleet.host, directory=self.fleet.directory, grype=program,
                version=self.counted.grype.version, database=self.database, results=self.work / "results",
                images=tuple(images),
            ).model_dump_json()
        )  # fmt: skip
        command = [sys.executable, "-m", "tests.integration.rescan.once", str(asked)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, images: Sequence[FleetImage]) -> list[RescanResult | Unjudged]:
        """Run a rescan to its end and return its results."""
        process = self._start(images, self.counted.program)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()
        return FOUND.validate_json(out)

    def killed(self, images: Sequence[FleetImage], after: int) -> None:
        """Start a rescan and kill it after a number of completed scans."""
        process = self._start(images, self.counted.limited(after))
        results = self.work / "results"
        eventually(lambda: len(list(results.glob("*/*.json"))) >= after)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
