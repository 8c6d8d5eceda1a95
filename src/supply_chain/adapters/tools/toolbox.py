"""Finds each pinned program, and downloads, builds or installs those that are missing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import httpx

from supply_chain.adapters.process.command import Tool, run_concurrently
from supply_chain.adapters.tools import download
from supply_chain.adapters.tools.install import apt_command, apt_install, go_build, go_install, source_digest
from supply_chain.adapters.tools.installed_version import Versions, read_version
from supply_chain.adapters.tools.pins import DistributionPin, GoPin, Pin, Pins, ReleaseFile, SourcePin, WheelPin
from supply_chain.errors import ToolFailed, ToolMissing

Origin = Literal["path", "release", "go", "source", "distribution", "wheel"]
Own = Literal["release", "go", "source"]
Progress = Callable[[str], None]
Build = Callable[[GoPin, Path, Progress], Path]
BuildSource = Callable[[SourcePin, Path, Progress], Path]
InstallPackages = Callable[[Sequence[str], Progress], None]

MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class ToolReport:
    """The state of one program for `cscm doctor`; `found` is None if no program reports its version."""

    name: str
    found: str | None
    wanted: str
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
    """The pinned programs. Each one that is downloaded or built has its own directory below `directory`.

    `build` is called if a release cannot be downloaded, `install_packages` if packages of the distribution are missing,
    and `build_source` for the programs of this project.
    """

    def __init__(
        self,
        directory: Path,
        pins: Pins,
        *,
        build: Build = go_install,
        build_source: BuildSource = go_build,
        install_packages: InstallPackages = apt_install,
    ) -> None:
        self._directory = directory
        self._pins = pins
        self._build = build
        self._build_source = build_source
        self._install_packages = install_packages
        self._versions = Versions(directory / "versions.json")
        self._building = threading.Lock()

    def find(self, name: str) -> Tool:
        """Return the program if it is on this machine in a version that fits; download nothing.

        Raises `ToolMissing`, with what to do, otherwise.
        """
        pin = self._pins.tools.get(name)
        if pin is None:
            raise ToolMissing(f"{name} is not in the pin file.\nAdd it to deployments/tools.yaml.")
        found = self._find_candidate(name, pin)
        if found is None or found.version is None or not pin.fits(found.version):
            raise ToolMissing(f"{_state(name, found)}; the chain needs {pin.accepted}.\n{_remedy(pin)}")
        return Tool(name, found.path, found.version)

    def report(self) -> list[ToolReport]:
        """Return the state of each pinned program and what to do about it."""
        return [self._report(name, pin) for name, pin in self._pins.tools.items()]

    def ensure(self, progress: Progress = lambda line: None) -> dict[str, Tool]:
        """Get the missing programs in parallel, and return all programs.

        `progress` is called with lines, from several threads but never from two at once. A call after a failure
        continues where the last one ended. Raises `DownloadFailed` on a wrong checksum, and `ToolMissing` or
        `ToolFailed` if no way to get a program works.
        """
        say = _SerialProgress(progress)
        self._directory.mkdir(parents=True, exist_ok=True)
        missing = {name: pin for name, pin in self._pins.tools.items() if not self._fits(name, pin)}
        packages = [pin.package for pin in missing.values() if isinstance(pin, DistributionPin)]
        if packages:
            with self._file_lock("apt"):
                self._install_packages(packages, say)
        if programs := {name: pin for name, pin in missing.items() if isinstance(pin, (GoPin, SourcePin))}:
            with download.client() as http:
                run_concurrently(*(partial(self._get, name, pin, http, say) for name, pin in programs.items()))
        return {name: self.find(name) for name in self._pins.tools}

    # --- what is here ---

    def _report(self, name: str, pin: Pin) -> ToolReport:
        found = self._find_candidate(name, pin)
        version = found.version if found else None
        ok = version is not None and pin.fits(version)
        return ToolReport(
            name=name,
            found=version,
            wanted=pin.accepted,
            ok=ok,
            remedy="" if ok else _remedy(pin),
            path=found.path if found else None,
            origin=found.origin if found else None,
        )

    def _fits(self, name: str, pin: Pin) -> bool:
        found = self._find_candidate(name, pin)
        return found is not None and found.version is not None and pin.fits(found.version)

    def _find_candidate(self, name: str, pin: Pin) -> _Candidate | None:
        """Return the first candidate whose version fits, else the first candidate; None if there is none."""
        seen = []
        for path, origin in self._candidates(name, pin):
            found = _Candidate(path, self._versions.version_of(name, pin, path), origin)
            if found.version is not None and pin.fits(found.version):
                return found
            seen.append(found)
        return seen[0] if seen else None

    def _candidates(self, name: str, pin: Pin) -> Iterator[tuple[Path, Origin]]:
        if isinstance(pin, WheelPin):
            beside = Path(sysconfig.get_path("scripts")) / name
            if os.access(beside, os.X_OK):
                yield beside, "wheel"
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
            return self._directory / f"{name}-{pin.version}-{source_digest(pin)[:12]}"
        return self._directory / f"{name}-{pin.version}-{origin}"

    # --- getting what is missing ---

    def _get(self, name: str, pin: GoPin | SourcePin, http: httpx.Client, say: Progress) -> None:
        def progress(line: str) -> None:
            say(f"{name}: {line}")

        with self._file_lock(name):
            if self._fits(name, pin):  # another run got it while this one waited
                return
            try:
                if isinstance(pin, GoPin):
                    self._download(name, pin, http, progress)
            except download.Unavailable as error:
                progress(f"no release available ({error})")
            if not self._fits(name, pin):
                with self._building:  # one at a time: each build uses all cores and much memory
                    self._build_locally(name, pin, progress)
            progress("ready")

    def _download(self, name: str, pin: GoPin, http: httpx.Client, progress: Progress) -> None:
        file = pin.files.get(_platform())
        if file is None:
            raise download.Unavailable(f"there is none for {_platform()}")
        base = f"{self._pins.releases}/{pin.repository}/releases/download/v{pin.version}"
        asset = pin.filled(file.name)
        progress(f"downloading {base}/{asset}")
        listed = download.find_checksum(asset, download.fetch_text(http, f"{base}/{pin.filled(pin.checksums)}"))
        if file.sha256 and file.sha256 != listed:
            raise download.checksum_error(f"{base}/{asset}", file.sha256, listed)
        cache = self._directory / "downloads"
        cache.mkdir(exist_ok=True)
        fetched = cache / f"{name}-{pin.version}-{asset}"
        download.fetch_file(http, f"{base}/{asset}", fetched, listed, progress)
        with self._scratch(name) as scratch:
            _extract(fetched, file, scratch / name)
            self._install(name, pin, scratch / name, "release")
        fetched.unlink()

    def _build_locally(self, name: str, pin: GoPin | SourcePin, progress: Progress) -> None:
        with self._scratch(name) as scratch:
            if isinstance(pin, SourcePin):
                self._install(name, pin, self._build_source(pin, scratch, progress), "source")
            else:
                self._install(name, pin, self._build(pin, scratch, progress), "go")

    def _install(self, name: str, pin: GoPin | SourcePin, program: Path, origin: Own) -> None:
        """Run the program for its version, then move it to its place by one rename.

        Raises `ToolFailed` if the version is not the pinned one.
        """
        program.chmod(0o755)
        said = read_version(name, pin, program)
        if said != pin.version:
            raise ToolFailed(
                f"{name} was to be {pin.version} but says it is {said or 'nothing that can be read'}.\n"
                "Correct its entry in the pin file, or report this to its project."
            )
        place = self._place(name, pin, origin)
        place.mkdir(exist_ok=True)
        download.sync(program)
        program.replace(place / name)
        download.sync(place)

    @contextlib.contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=self._directory) as scratch:
            yield Path(scratch)

    @contextlib.contextmanager
    def _file_lock(self, name: str) -> Iterator[None]:
        with (self._directory / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _SerialProgress:
    """Passes on one line at a time, whichever thread it comes from."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()

    def __call__(self, line: str) -> None:
        with self._lock:
            self._progress(line)


def _extract(fetched: Path, file: ReleaseFile, target: Path) -> None:
    if file.member is None:
        shutil.copyfile(fetched, target)
    else:
        download.unpack(fetched, file.member, target)


def _platform() -> str:
    machine = platform.machine().lower()
    return f"{platform.system().lower()}/{MACHINES.get(machine, machine)}"


def _state(name: str, found: _Candidate | None) -> str:
    if found is None:
        return f"{name} is not on this machine"
    return f"{found.path} is {found.version or 'of an unknown version'}"


def _remedy(pin: Pin) -> str:
    if isinstance(pin, DistributionPin):
        return f"Run `cscm up` as root, or: {apt_command([pin.package])}"
    if isinstance(pin, WheelPin):
        return f"Install the project again; {pin.package} is one of its dependencies."
    return "Run `cscm up`; it fetches or builds it."
