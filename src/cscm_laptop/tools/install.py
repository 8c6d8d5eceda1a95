"""Installs tools that have no release to download: with Go from a module or from sources, or with the distribution."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from supply_chain.adapters.process.command import run
from supply_chain.adapters.tools.pins import GoPin, SourcePin
from supply_chain.adapters.tools.sources import read_source_files
from supply_chain.adapters.tools.toolbox import make_apt_command
from supply_chain.errors import ToolFailed, ToolMissing

Progress = Callable[[str], None]

BUILD_TIMEOUT = 3600.0
APT_TIMEOUT = 900.0
REPORT_EVERY = 10.0
MEMORY = "2GiB"
"""Memory that each process of Go's compiler uses before it collects garbage."""
GO_MINIMUM = (1, 21)
GO_PLACE = "/usr/local/go/bin"
"""Directory in which Go's own installation puts it."""


def install_go_program(pin: GoPin, directory: Path, progress: Progress) -> Path:
    """Build the pinned version into `directory`; Go verifies every module against its hashes.

    Go's own caches are used, so that nothing is built twice. Raises `ToolMissing` if there is no suitable Go, and
    `ToolFailed` if the build fails.
    """
    go = _find_go(pin)
    progress(f"building {pin.version} with go install; the first time this takes minutes")
    done = run(
        [go, "install", *_flags(pin), f"{pin.package}@v{pin.version}"],
        name="go",
        timeout=BUILD_TIMEOUT,
        environment=_environment(pin) | {"GOBIN": str(directory)},
        quiet=True,
        on_line=_Counter(progress),
    )
    if done.status != 0:
        raise ToolFailed(
            f"go install {pin.package}@v{pin.version} ended with status {done.status}: {done.stderr[-2000:].strip()}\n"
            "Check that Go's module proxy can be reached, then run again; it continues with what is already there."
        )
    return directory / pin.program


def build_go_program(pin: SourcePin, directory: Path, progress: Progress) -> Path:
    """Build a program of this project in `directory`; Go verifies every module against the project's go.sum.

    Raises `ToolMissing` if there is no suitable Go, and `ToolFailed` if the build fails.
    """
    go = _find_go(pin)
    progress("building it from the project's sources; the first time this takes minutes")
    for name, content in read_source_files(pin).items():
        (directory / name).write_bytes(content)
    done = run(
        [go, "build", *_flags(pin), "-buildvcs=false", "-mod=readonly", "-o", "program", "."],
        name="go",
        timeout=BUILD_TIMEOUT,
        environment=_environment(pin),
        cwd=directory,
        quiet=True,
        on_line=_Counter(progress),
    )
    if done.status != 0:
        raise ToolFailed(
            f"go build of {pin.package} ended with status {done.status}: {done.stderr[-2000:].strip()}\n"
            "Check that Go's module proxy can be reached, then run again; it continues with what is already there."
        )
    return directory / "program"


def _flags(pin: GoPin | SourcePin) -> list[str]:
    """Return the flags of a build without debugging information, which takes a sixth of the time.

    They are the same for all programs: what Go compiles with others is compiled again.
    """
    return ["-v", "-trimpath", "-gcflags", "all=-dwarf=false", "-ldflags", f"-s -w -X {pin.fill_version(pin.stamp)}"]


def _environment(pin: GoPin | SourcePin) -> dict[str, str]:
    """Return the variables of a build, the same for all programs of a toolchain.

    The compiler's processes collect garbage only at the end of their `MEMORY`, which saves a fifth of the time.
    """
    collector = {"GOGC": "off", "GOMEMLIMIT": MEMORY}
    return {"GOTOOLCHAIN": pin.toolchain, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", **collector}


def _find_go(pin: GoPin | SourcePin) -> str:
    """Return the path of a Go that downloads the toolchain it needs, even if `sudo` removed its directory from PATH.

    Raises `ToolMissing` if there is none, or if its version is below `GO_MINIMUM`.
    """
    go = shutil.which("go", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{GO_PLACE}")
    result = (
        run([go, "version"], name="go", timeout=30, environment={"GOTOOLCHAIN": "local"}, quiet=True) if go else None
    )
    version = re.search(r"go(\d+)\.(\d+)", result.stdout) if result else None
    if go and version and (int(version[1]), int(version[2])) >= GO_MINIMUM:
        return go
    state = f"{go} is {version[0] if version else 'of an unknown version'}" if go else "Go is not on PATH"
    raise ToolMissing(
        f"{state}, so {pin.package} cannot be built.\n"
        "Install Go 1.21 or later, which fetches the toolchain it needs (https://go.dev/dl; Debian 12 has one in "
        "bookworm-backports), or let this machine reach the releases."
    )


class _Counter:
    """Reports from time to time how many modules were fetched and how many packages were built."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._fetched = self._built = 0
        self._reported = time.monotonic()

    def __call__(self, line: str) -> None:
        if line.startswith("go: "):
            self._fetched += "downloading" in line
        else:
            self._built += 1
        if time.monotonic() - self._reported > REPORT_EVERY:
            self._reported = time.monotonic()
            self._progress(f"building: {self._fetched} modules fetched, {self._built} packages built")


def install_apt_packages(packages: Sequence[str], progress: Progress) -> None:
    """Install packages of the distribution in one call.

    Raises `ToolMissing` without root or apt-get, and `ToolFailed` if apt-get fails.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ToolMissing(
            f"Not on this machine, or too old: {', '.join(packages)}.\n"
            f"Install them with the distribution's package manager: {make_apt_command(packages)}"
        )
    progress(f"installing {', '.join(packages)} from the distribution")
    options = ["-o", "DPkg::Lock::Timeout=300", "-y", "-q"]
    for arguments in (["update"], ["install", "--no-install-recommends", *packages]):
        done = run(
            ["apt-get", *options, *arguments],
            name="apt-get",
            timeout=APT_TIMEOUT,
            environment={"DEBIAN_FRONTEND": "noninteractive"},
            quiet=True,
        )
        if done.status != 0:
            raise ToolFailed(
                f"apt-get {arguments[0]} ended with status {done.status}: {done.stderr[-1000:].strip()}\n"
                f"See to it that this works, then run again: {make_apt_command(packages)}"
            )
