"""Downloads, builds or installs the pinned programs that are missing."""

from __future__ import annotations

import contextlib
import fcntl
import platform
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx

from cscm_laptop.tools import download
from cscm_laptop.tools.install import build_go_program, install_apt_packages, install_go_program
from supply_chain.adapters.process.cancellation import run_concurrently
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.adapters.tools.installed_version import read_version
from supply_chain.adapters.tools.pins import DistributionPin, GoPin, ReleaseFile, SourcePin
from supply_chain.adapters.tools.toolbox import Own
from supply_chain.errors import ToolFailed

Progress = Callable[[str], None]
Build = Callable[[GoPin, Path, Progress], Path]
BuildSource = Callable[[SourcePin, Path, Progress], Path]
InstallPackages = Callable[[Sequence[str], Progress], None]

MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class Installer(Toolbox):
    """A toolbox that can get what is missing.

    `build` is called if a release cannot be downloaded, `install_packages` if packages of the distribution are missing,
    and `build_source` for the programs of this project.
    """

    def __init__(
        self,
        directory: Path,
        pins: Pins,
        *,
        build: Build = install_go_program,
        build_source: BuildSource = build_go_program,
        install_packages: InstallPackages = install_apt_packages,
    ) -> None:
        super().__init__(directory, pins)
        self._build = build
        self._build_source = build_source
        self._install_packages = install_packages
        self._building = threading.Lock()

    def ensure(self, progress: Progress = lambda line: None) -> dict[str, Tool]:
        """Get the missing programs in parallel, and return all programs.

        `progress` is called with lines, from several threads but never from two at once. A call after a failure
        continues where the last one ended. Raises `DownloadFailed` on a wrong checksum, and `ToolMissing` or
        `ToolFailed` if no way to get a program works.
        """
        say = _Say(progress)
        self._directory.mkdir(parents=True, exist_ok=True)
        missing = {name: pin for name, pin in self._pins.tools.items() if not self._fits(name, pin)}
        packages = [pin.package for pin in missing.values() if isinstance(pin, DistributionPin)]
        if packages:
            with self._locked("apt"):
                self._install_packages(packages, say)
        if programs := {name: pin for name, pin in missing.items() if isinstance(pin, (GoPin, SourcePin))}:
            with download.make_client() as http:
                say.total = len(programs)
                run_concurrently(*(partial(self._obtain, name, pin, http, say) for name, pin in programs.items()))
        return {name: self.find(name) for name in self._pins.tools}

    def _obtain(self, name: str, pin: GoPin | SourcePin, http: httpx.Client, say: _Say) -> None:
        def progress(line: str) -> None:
            say(f"{name}: {line}")

        with self._locked(name):
            if not self._fits(name, pin):  # another run may have got it while this one waited
                self._get(name, pin, http, progress)
            say.ready(name)

    def _get(self, name: str, pin: GoPin | SourcePin, http: httpx.Client, progress: Progress) -> None:
        try:
            if isinstance(pin, GoPin):
                self._download(name, pin, http, progress)
        except download.Unavailable as error:
            progress(f"no release available ({error}); building it from source instead")
        if not self._fits(name, pin):
            with self._building:  # one at a time: each build uses all cores and much memory
                self._build_here(name, pin, progress)

    def _download(self, name: str, pin: GoPin, http: httpx.Client, progress: Progress) -> None:
        file = pin.files.get(_platform())
        if file is None:
            raise download.Unavailable(f"there is none for {_platform()}")
        base = f"{self._pins.releases}/{pin.repository}/releases/download/{pin.fill_version(pin.tag)}"
        asset = pin.fill_version(file.name)
        progress(f"downloading {base}/{asset}")
        listed = download.find_checksum(asset, download.fetch_text(http, f"{base}/{pin.fill_version(pin.checksums)}"))
        if file.sha256 and file.sha256 != listed:
            raise download.make_checksum_error(f"{base}/{asset}", file.sha256, listed)
        cache = self._directory / "downloads"
        cache.mkdir(exist_ok=True)
        fetched = cache / f"{name}-{pin.version}-{asset}"
        download.fetch_file(http, f"{base}/{asset}", fetched, listed, progress)
        with self._scratch(name) as scratch:
            _take_out(fetched, file, scratch / name)
            self._put(name, pin, scratch / name, "release")
        fetched.unlink()

    def _build_here(self, name: str, pin: GoPin | SourcePin, progress: Progress) -> None:
        with self._scratch(name) as scratch:
            if isinstance(pin, SourcePin):
                self._put(name, pin, self._build_source(pin, scratch, progress), "source")
            else:
                self._put(name, pin, self._build(pin, scratch, progress), "go")

    def _put(self, name: str, pin: GoPin | SourcePin, program: Path, origin: Own) -> None:
        """Run the program for its version, then move it to its place by one rename.

        Raises `ToolFailed` if the version is not the pinned one.
        """
        program.chmod(0o755)
        version = read_version(name, pin, program)
        if version != pin.version:
            raise ToolFailed(
                f"{name} should have the version {pin.version} but reports {version or 'none'}.\n"
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
    def _locked(self, name: str) -> Iterator[None]:
        with (self._directory / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _Say:
    """Passes on one line at a time, whichever thread it comes from, and counts the programs that are ready."""

    total = 0

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._ready = 0

    def ready(self, name: str) -> None:
        with self._lock:
            self._ready += 1
            self._progress(f"{name}: ready ({self._ready} of {self.total})")

    def __call__(self, line: str) -> None:
        with self._lock:
            self._progress(line)


def _take_out(fetched: Path, file: ReleaseFile, target: Path) -> None:
    if file.member is None:
        shutil.copyfile(fetched, target)
    else:
        download.unpack(fetched, file.member, target)


def _platform() -> str:
    return f"{platform.system().lower()}/{read_architecture()}"


def read_architecture() -> str:
    """Return the architecture of this machine by the name that Go has for it."""
    architecture = platform.machine().lower()
    return MACHINES.get(architecture, architecture)
