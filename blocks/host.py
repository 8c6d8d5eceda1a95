"""The block of a container host: the engine on which an environment runs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from prefect_docker.host import DockerHost
from pydantic import Field

from blocks.setting import Setting
from supply_chain.adapters.docker.build_guard import LocalEngine
from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.docker.engine_memory import find_engine_process
from supply_chain.development.separation import DISK, LEAST_CPUS, PROCESSES, RESERVE, BuildLimits
from supply_chain.model.container import Machine

MEBIBYTE = 1024**2
CONTAINERD = Path("/var/lib/containerd")
"""Where the system's own containerd keeps images; an engine that uses it does not report this."""


class ContainerHost(Setting):
    """The Docker engine that runs builds, or the containers of an environment."""

    _block_type_name: ClassVar[str] = "Supply Chain Container Host"
    _block_type_slug: ClassVar[str] = "supply-chain-container-host"
    _description: ClassVar[str] = "The Docker engine that runs builds, or the containers of an environment."

    docker: DockerHost = Field(
        title="Docker host", description="The address of the engine, such as unix:///var/run/docker.sock."
    )

    owner: str = Field(
        default="",
        title="Owner",
        description="The label of what this supply chain makes in the engine; empty if no other one uses it.",
    )

    hosted: bool = Field(
        default=False,
        title="Hosted builder",
        description="Whether the host only runs builds, and no developer administers it (docs/explanation/slsa.md).",
    )

    build_cpus: float | None = Field(
        default=None,
        ge=LEAST_CPUS,
        title="Build processors",
        description="The most processors of a build, such as 1.5; empty: all. Busy processors give builds a quarter "
        "of what others get.",
    )
    build_memory: int | None = Field(
        default=None,
        ge=64,
        title="Build memory",
        description="The memory limit of a build, in MiB; empty: half of the host's.",
    )
    build_processes: int = Field(
        default=PROCESSES,
        ge=16,
        title="Build processes",
        description="The most processes and threads of a build.",
    )
    build_disk: int = Field(
        default=DISK // MEBIBYTE,
        ge=64,
        title="Build disk",
        description="The most that the steps of a build write, caches included, in MiB. The engine's disk loses at "
        "most this, or four times `build.max_size` if that is more.",
    )
    build_reserve: int = Field(
        default=RESERVE // MEBIBYTE,
        ge=0,
        title="Disk reserve",
        description="The free space on the engine's disk, in MiB, below which builds end; also below 5 % of the "
        "inodes.",
    )

    @cached_property
    def machine(self) -> Machine:
        """Resources of the engine's host."""
        return self.engine().machine()

    @property
    def build_limits(self) -> BuildLimits:
        """Limits of one build on this host."""
        machine = self.machine
        return BuildLimits(
            memory=self.build_memory * MEBIBYTE if self.build_memory else machine.memory // 2,
            processes=self.build_processes,
            cpus=min(self.build_cpus or machine.cpus, machine.cpus),
            disk=self.build_disk * MEBIBYTE,
            reserve=self.build_reserve * MEBIBYTE,
        )

    @property
    def storage(self) -> tuple[Path, ...]:
        """Directories where the engine keeps its images, or may keep them; empty for an engine on another machine."""
        directory = Path(self.machine.storage)
        here = self.url.startswith("unix://") and directory.is_dir()
        return tuple(each for each in (directory, CONTAINERD) if each.is_dir()) if here else ()

    @property
    def local_engine(self) -> LocalEngine:
        """What a build can measure of the engine."""
        process = find_engine_process(self.url) if self.url.startswith("unix://") else None
        return LocalEngine(self.storage, process)

    @property
    def url(self) -> str:
        """Address of the engine."""
        address = self.docker.base_url or "unix:///var/run/docker.sock"
        return address.replace("http+unix://", "unix://", 1)  # the SDK accepts both

    def engine(self) -> DockerEngine:
        """Return the engine, after checking that it answers."""
        return DockerEngine.connect(self.url, self.docker.timeout or 60, self.owner)
