"""Makes SBOMs with syft: of images, by digest from the registry, and of source directories."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from supply_chain.adapters.files.free_space import RESERVE, free_bytes
from supply_chain.adapters.files.selection import measure_bytes
from supply_chain.adapters.image.layers import LARGEST_IMAGE
from supply_chain.adapters.image.packaged_files import PackagedFiles
from supply_chain.adapters.process import tool_errors
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.owned_programs import leave_out_owned
from supply_chain.concurrency import run_in_background
from supply_chain.errors import RegistryUnavailable, ScannerFailed, ToolFailed
from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef
from supply_chain.scratch import make_scratch_directory
from supply_chain.text import format_mebibytes
from supply_chain.vulnerability.scanner import Sbom, Sboms

RECORD, CYCLONEDX, SPDX = "syft-json", "cyclonedx-json", "spdx-json"
LEAVE_OUT_NOTHING = {"SYFT_PACKAGE_EXCLUDE_BINARY_OVERLAP_BY_OWNERSHIP": "false"}
"""Settings with which syft also lists programs that packages claim to own."""
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

    def make_directory_sbom(self, directory: Path) -> Sbom:
        """Return the SBOM of what a source directory declares; raise `ScannerFailed`."""
        return self._make(f"dir:{directory}")

    def make_archive_sbom(self, archive: Path) -> Sbom:
        """Return the SBOM of the image in a Docker archive (a tar file); raise `ScannerFailed`.

        The records of its packages count as they stand.
        """
        return self._make(f"docker-archive:{archive}")

    def convert(self, sbom: Sbom) -> Sboms:
        """Return an SBOM in all formats; raise `ScannerFailed`."""
        with make_scratch_directory("syft") as work:
            record = work / "sbom.json"
            record.write_bytes(sbom.content)
            return Sboms(sbom, *self._run(work, "convert", record, CYCLONEDX, SPDX))

    def _make(self, source: str) -> Sbom:
        with make_scratch_directory("syft") as work:
            (content,) = self._run(work, "scan", source, RECORD)
        with _explain(source):
            return self._check(content, json.loads(content), source)

    def _run(self, work: Path, command: str, source: str | Path, *formats: str, **environment: str) -> list[bytes]:
        """Call syft and return what it writes in each format; raise `ScannerFailed`."""
        settings = work / "none.yaml"
        settings.touch()  # a configuration in the working or home directory must not hide a package
        files = [work / f"{each}.json" for each in formats]
        outputs = [f"--output={each}={path}" for each, path in zip(formats, files, strict=True)]
        tool = self.tool.with_environment(
            SYFT_CHECK_FOR_APP_UPDATE="false", SYFT_GOLANG_CAPTURE_SYMBOLS="all", TMPDIR=str(work), **environment
        )
        with _explain(source):
            tool.run(
                command, source, "--config", settings, *outputs,
                timeout=TIMEOUT, quiet=True, cwd=work, memory=MEMORY, watch=partial(_check_unpacked, work, source),
            )  # fmt: skip
            return [path.read_bytes() for path in files]

    def _check(self, content: bytes, document: Mapping[str, Any], source: str) -> Sbom:
        packages = len(document["artifacts"])
        if packages > MAX_PACKAGES:
            raise ScannerFailed(
                f"{source} has {packages} packages, and more than {MAX_PACKAGES} are not judged.\n"
                "Remove what nobody installed: records of packages that are not there, and files that lock other "
                "projects."
            )
        return Sbom(content, packages, self.generator)


@dataclass(frozen=True)
class Syft(SourceSyft):
    """Syft with the permissions of one role; `docker_config` yields a directory with its registry credentials."""

    host: str
    docker_config: Callable[[], AbstractContextManager[Path]]
    insecure: bool = False
    examine: Callable[[ImageRef], tuple[Examination, PackagedFiles]] = field(kw_only=True)
    """Returns what an image's SBOM does not show, and which files are its packages' own."""

    def make_image_sbom(self, ref: ImageRef) -> tuple[Sbom, Examination]:
        """Return the SBOM of an image, without the programs of its packages, and what the SBOM does not show.

        Raises `ScannerFailed`, `RegistryUnavailable`, or what `examine` raises.
        """
        source = f"registry:{self.host}/{ref}"
        with run_in_background(partial(self.examine, ref)) as examined, make_scratch_directory("syft") as work:
            with self.docker_config() as config, _explain_registry(source):
                (content,) = self._run(
                    work, "scan", source, RECORD,
                    DOCKER_CONFIG=str(config),
                    SYFT_REGISTRY_INSECURE_USE_HTTP=str(self.insecure).lower(),
                    **LEAVE_OUT_NOTHING,
                )  # fmt: skip
            examination, packaged = examined()
        with _explain(source):
            document = json.loads(content)
            if leave_out_owned(document, packaged):
                content = json.dumps(document, separators=(",", ":")).encode()
            return self._check(content, document, source), examination


@contextmanager
def _explain(source: str | Path) -> Iterator[None]:
    try:
        yield
    except (ToolFailed, OSError, ValueError, KeyError, TypeError) as error:
        raise ScannerFailed(
            f"syft made no complete SBOM of {source}: {error}\n"
            "Without an inventory nothing can be matched. Look at its message and run the step again."
        ) from error


@contextmanager
def _explain_registry(source: str) -> Iterator[None]:
    """Raise `RegistryUnavailable` if syft failed because the registry did not answer."""
    try:
        yield
    except ScannerFailed as error:
        cause = error.__cause__
        if isinstance(cause, ToolFailed) and tool_errors.is_transient(str(cause)):
            raise RegistryUnavailable(
                f"syft could not read {source}: {cause}\nThe registry did not answer; the step is retried."
            ) from cause
        raise


def _check_unpacked(work: Path, source: str | Path) -> None:
    """Raise `ScannerFailed` if syft has written too much to its directory or too little of the disk is free."""
    free = free_bytes(work)
    if free < RESERVE or measure_bytes(work, MAX_UNPACKED) > MAX_UNPACKED:
        raise ScannerFailed(
            f"syft unpacked too much of {source} and was ended: {MAX_UNPACKED // 1024**3} GiB at most, and "
            f"{RESERVE // 1024**3} GiB have to stay free in {work.parent} (now {format_mebibytes(free)}).\n"
            "Remove archives that hold other archives, such as a jar of jars, or that unpack to much more than they "
            "are."
        )
