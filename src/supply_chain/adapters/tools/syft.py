"""Makes SBOMs with syft: of images, by digest from the registry, and of source directories."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from supply_chain.adapters.files.free_space import RESERVE, free_bytes
from supply_chain.adapters.files.selection import measure_bytes
from supply_chain.adapters.image.layers import LARGEST_IMAGE
from supply_chain.adapters.process import tool_errors
from supply_chain.adapters.process.command import Tool
from supply_chain.errors import RegistryUnavailable, ScannerFailed, ToolFailed
from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef
from supply_chain.scratch import scratch
from supply_chain.text import mebibytes
from supply_chain.vulnerability.scanner import Sbom, Sboms

FORMATS = ("syft-json", "cyclonedx-json", "spdx-json")
TIMEOUT = 600.0
MEMORY = 4 * 1024**3
"""Maximum bytes of memory that syft may use."""
MAX_UNPACKED = LARGEST_IMAGE + 4 * 1024**3
"""Maximum bytes that syft may write: the layers of an image, and archives in it, which may contain further archives."""
MAX_PACKAGES = 30_000
"""Maximum packages of one image or source: each costs milliseconds and tens of KiB at every gate that reads them."""


@dataclass(frozen=True)
class SourceSyft:
    """Syft without access to a registry; see `vulnerability.scanner.SourceSbomGenerator`."""

    tool: Tool

    @property
    def generator(self) -> str:
        """The tool and its version, as SBOMs name it."""
        return f"syft {self.tool.version}"

    def of_directory(self, directory: Path) -> Sboms:
        """Return the SBOMs of what a source directory declares."""
        return self._run(f"dir:{directory}")

    def of_archive(self, archive: Path) -> Sboms:
        """Return the SBOMs of the image in a Docker archive (a tar file)."""
        return self._run(f"docker-archive:{archive}")

    def _run(self, source: str, config: Path | None = None, *, insecure: bool = False) -> Sboms:
        environment = {
            "SYFT_CHECK_FOR_APP_UPDATE": "false",
            "SYFT_GOLANG_CAPTURE_SYMBOLS": "all",
            "SYFT_REGISTRY_INSECURE_USE_HTTP": str(insecure).lower(),
        }
        if config:
            environment["DOCKER_CONFIG"] = str(config)
        with scratch("syft") as work:
            settings = work / "none.yaml"
            settings.touch()  # a configuration in the working or home directory must not hide a package
            files = [work / f"{each}.json" for each in FORMATS]
            outputs = [f"--output={each}={path}" for each, path in zip(FORMATS, files, strict=True)]
            arguments: tuple[str | Path, ...] = ("scan", source, "--config", settings, *outputs)
            watch = partial(_check_unpacked, work, source)
            try:
                self.tool.with_environment(**environment, TMPDIR=str(work)).run(
                    *arguments, timeout=TIMEOUT, quiet=True, cwd=work, memory=MEMORY, watch=watch
                )
                syft, cyclonedx, spdx = (path.read_bytes() for path in files)
                packages = _count_packages(syft, source)
            except (ToolFailed, OSError, ValueError, KeyError, TypeError) as error:
                if config and isinstance(error, ToolFailed) and tool_errors.is_transient(str(error)):
                    raise RegistryUnavailable(
                        f"syft could not read {source}: {error}\nThe registry did not answer; the step is retried."
                    ) from error
                raise ScannerFailed(
                    f"syft made no complete SBOM of {source}: {error}\n"
                    "Without an inventory nothing can be matched. Look at its message and run the step again."
                ) from error
        return Sboms(Sbom(syft, packages, self.generator), cyclonedx, spdx)


@dataclass(frozen=True)
class Syft(SourceSyft):
    """Syft with the permissions of one role; `docker_config` yields a directory with its registry credentials."""

    host: str
    docker_config: Callable[[], AbstractContextManager[Path]]
    insecure: bool = False
    examine: Callable[[ImageRef], Examination] = field(kw_only=True)
    """Finds out what an image's SBOM does not contain; see `vulnerability.scanner.SbomGenerator`."""

    def of_image(self, ref: ImageRef) -> Sboms:
        """Return the SBOMs of an image; raise `ScannerFailed` if syft did not make all, or `RegistryUnavailable`."""
        with self.docker_config() as config:
            return self._run(f"registry:{self.host}/{ref}", config, insecure=self.insecure)


def _count_packages(syft: bytes, source: str) -> int:
    packages = len(json.loads(syft)["artifacts"])
    if packages > MAX_PACKAGES:
        raise ScannerFailed(
            f"{source} has {packages} packages, and more than {MAX_PACKAGES} are not judged.\n"
            "Remove what nobody installed: records of packages that are not there, and files that lock other projects."
        )
    return packages


def _check_unpacked(work: Path, source: str) -> None:
    """Raise `ScannerFailed` if syft has written too much to its directory or too little of the disk is free."""
    free = free_bytes(work)
    if free < RESERVE or measure_bytes(work, MAX_UNPACKED) > MAX_UNPACKED:
        raise ScannerFailed(
            f"syft unpacked too much of {source} and was ended: {MAX_UNPACKED // 1024**3} GiB at most, and "
            f"{RESERVE // 1024**3} GiB have to stay free in {work.parent} (now {mebibytes(free)}).\n"
            "Remove archives that hold other archives, such as a jar of jars, or that unpack to much more than they "
            "are."
        )
