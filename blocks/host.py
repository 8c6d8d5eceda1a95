"""The block of a container host: the engine on which an environment runs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from prefect_docker.host import DockerHost
from pydantic import Field

from blocks.setting import Setting
from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.development.separation import BuildLimits
from supply_chain.model.container import Machine

MEBIBYTE = 1024**2
CONTAINERD = Path("/var/lib/containerd")
"""Where the system's own containerd keeps images; an engine that uses it does not report this."""


class ContainerHost(Setting):
    """The Docker engine that an environment's containers run on."""

    _block_type_name: ClassVar[str] = "Supply Chain Container Host"
    _block_type_slug: ClassVar[str] = "supply-chain-container-host"
    _description: ClassVar[str] = "The Docker engine that builds run on, or that an environment's containers run on."

    docker: DockerHost = Field(
        title="Docker host", description="The engine's address, such as unix:///var/run/docker.sock."
    )

    owner: str = Field(
        default="",
        title="Owner",
        description="What is made on the engine carries this name, and what carries another is left alone. "
        "Empty where no other supply chain uses the engine.",
    )

    hosted: bool = Field(
        default=False,
        title="Hosted builder",
        description="Whether this is a host for builds alone, which nobody works on and no developer administers. Its "
        "builds then earn SLSA Build Level 2; docs/explanation/slsa.md says what else that asks for.",
    )

    build_cpus: float | None = Field(
        default=None,
        gt=0,
        title="Build processors",
        description="Processors that all steps of a build may use together, such as 1.5; empty: all. Where processors "
        "are short, builds get a quarter of what everything else gets.",
    )
    build_memory: int | None = Field(
        default=None,
        ge=64,
        title="Build memory",
        description="MiB of memory for all steps of a build; empty: half of the host's.",
    )
    build_processes: int = Field(
        default=2048, ge=16, title="Build processes", description="Processes and threads for all steps of a build."
    )
    build_disk: int = Field(
        default=10 * 1024,
        ge=64,
        title="Build disk",
        description="MiB that the running steps of a build may have written, their caches included, and by which each "
        "build that runs may lower the free space on the engine's disk, or by four times its `build.max_size`, "
        "whichever is more.",
    )
    build_reserve: int = Field(
        default=2 * 1024,
        ge=0,
        title="Disk reserve",
        description="MiB that have to stay free on the engine's disk, and with them 5 % of its inodes; builds end "
        "before.",
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
        there = Path(self.machine.storage)
        here = self.url.startswith("unix://") and there.is_dir()
        return tuple(each for each in (there, CONTAINERD) if each.is_dir()) if here else ()

    @property
    def url(self) -> str:
        """Address of the engine."""
        return self.docker.base_url or "unix:///var/run/docker.sock"

    def engine(self) -> DockerEngine:
        """Return the engine, after checking that it answers."""
        return DockerEngine.connect(self.url, self.docker.timeout or 60, self.owner)
