"""A fleet in a registry of its own, and the real scanner with a count of its completed runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.fleet import Fleet, derived, emulated
from cscm_laptop.home import Home
from cscm_laptop.vulndb import ensure_database
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.vulndb import grype_environment
from supply_chain.fleet.exposure import RescanResult, Unjudged
from supply_chain.fleet.image import FleetImage
from tests.integration.rescan.once import FOUND, Asked
from tests.support.command import ROOT
from tests.support.waiting import eventually


@pytest.fixture(scope="session")
def grype(toolbox: Toolbox) -> Tool:
    return toolbox.find("grype")


@pytest.fixture
def database(grype: Tool, tmp_path: Path) -> Path:
    """A directory with the starter database."""
    directory = tmp_path / "database"
    ensure_database(grype, directory, starter_only=True)
    return directory


@pytest.fixture(scope="session")
def real(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The SBOMs of this environment's packages, and of a Debian root with vulnerable packages."""
    work = tmp_path_factory.mktemp("real")
    release = work / "debian/etc"
    release.mkdir(parents=True)
    (release / "os-release").write_text('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n')
    status = work / "debian/var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for name, version in (("openssl", "3.0.9-1"), ("zlib1g", "1:1.2.13.dfsg-1"), ("libssl3", "3.0.9-1")):
        (status / name).write_text(
            f"Package: {name}\nStatus: install ok installed\nSource: {'zlib' if name == 'zlib1g' else 'openssl'}\n"
            f"Version: {version}\nArchitecture: amd64\nMaintainer: nobody\nDescription: nothing\n"
        )
    (work / "debian/requirements.txt").write_text("django==3.2.3\njinja2==2.10\nsalt==3000.1\n")
    site = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    for each in sorted(site.glob("*.dist-info"))[:60]:
        (work / "python" / each.name).mkdir(parents=True)
        for name in ("METADATA", "RECORD"):
            (work / "python" / each.name / name).write_bytes((each / name).read_bytes())
    found = []
    for source in (work / "debian", work / "python"):
        output = work / f"{source.name}.json"
        toolbox.find("syft").run("scan", f"dir:{source}", f"--output=syft-json={output}", timeout=300, quiet=True)
        found.append(output.read_bytes())
    return found


@pytest.fixture
def fleet(home: Home, tmp_path: Path) -> Iterator[Fleet]:
    place = tmp_path / "registry"
    place.mkdir()
    with emulated(home.emulator / "bin/python", place) as running:
        yield running


@dataclass
class Counted:
    """Grype with a log of completed runs; `leave` limits how many runs can start."""

    grype: Tool
    directory: Path

    @property
    def program(self) -> Path:
        path = self.directory / "grype"
        if not path.exists():
            path.write_text(
                f'#!/bin/sh\ncase "$1" in sbom:*) ;; *) exec {self.grype.path} "$@";; esac\n'
                f'for each in "" {self.directory}/leave/*; do rmdir "$each" 2>/dev/null && break; done ||'
                f" [ ! -e {self.directory}/leave ] || exec sleep 600\n"
                f'{self.grype.path} "$@"; status=$?\n'
                f'sha256sum "${{1#sbom:}}" | cut -c1-64 >> {self.directory}/ran\nexit $status\n'
            )
            path.chmod(0o755)
            (self.directory / "ran").touch()
        return path

    @contextmanager
    def leave(self, number: int) -> Iterator[None]:
        """Let only `number` runs start: each takes one directory, which no other run can take."""
        leave = self.directory / "leave"
        for each in range(number):
            (leave / str(each)).mkdir(parents=True)
        yield
        shutil.rmtree(leave)

    @property
    def ran(self) -> list[str]:
        """The SHA-256 of the SBOM of each completed run."""
        self.program  # noqa: B018 - makes the file
        return (self.directory / "ran").read_text().split()


@pytest.fixture
def counted(grype: Tool, tmp_path: Path) -> Counted:
    directory = tmp_path / "counted"
    directory.mkdir()
    return Counted(grype, directory)


@dataclass
class Rescans:
    """Runs of the rescan, each in its own process."""

    fleet: Fleet
    counted: Counted
    database: Path
    work: Path

    def _start(self, images: Sequence[FleetImage]) -> subprocess.Popen[bytes]:
        asked = self.work / "asked.json"
        asked.write_text(
            Asked(
                host=self.fleet.host, directory=self.fleet.directory, grype=self.counted.program,
                version=self.counted.grype.version, database=self.database, results=self.work / "results",
                images=tuple(images),
            ).model_dump_json()
        )  # fmt: skip
        command = [sys.executable, "-m", "tests.integration.rescan.once", str(asked)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, images: Sequence[FleetImage]) -> list[RescanResult | Unjudged]:
        """Run a rescan to its end and return its results."""
        process = self._start(images)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()
        return FOUND.validate_json(out)

    def killed(self, images: Sequence[FleetImage], after: int) -> None:
        """Start a rescan and kill it after a number of completed scans."""
        with self.counted.leave(after):
            process = self._start(images)
            kept = self.work / "results"
            eventually(lambda: len(list(kept.glob("*/*.json"))) >= after, 120)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def rescans(fleet: Fleet, counted: Counted, database: Path, tmp_path: Path) -> Rescans:
    return Rescans(fleet, counted, database, tmp_path)


@pytest.fixture
def plain(grype: Tool, tmp_path: Path) -> dict[str, str]:
    """The environment variables for grype alone."""
    return grype_environment(tmp_path / "database") | {"HOME": str(tmp_path)}


@pytest.fixture
def sboms(real: list[bytes]) -> list[bytes]:
    """Ten different SBOMs."""
    return list(derived(real, 10))
