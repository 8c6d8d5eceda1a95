"""A container host: the engine that an environment runs on."""

from __future__ import annotations

from typing import ClassVar

from prefect_docker.host import DockerHost
from pydantic import Field

from blocks.setting import Setting
from supply_chain.adapters.engine import DockerEngine


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

    @property
    def url(self) -> str:
        """The engine's address."""
        return self.docker.base_url or "unix:///var/run/docker.sock"

    def engine(self) -> DockerEngine:
        """The engine, checked to answer."""
        return DockerEngine.connect(self.url, self.docker.timeout or 60, self.owner)
