"""Builds Dockerfiles of a test with the real BuildKit, as the chain does; the laptop is not needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from supply_chain.adapters.docker.build_cgroup import remove_groups
from supply_chain.adapters.docker.build_guard import REMOTE_ENGINE, LocalEngine
from supply_chain.adapters.docker.buildx import Buildx, find_client
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.concurrency import map_concurrently
from supply_chain.development.build import BuildOrder
from supply_chain.development.separation import BuildLimits
from tests.support.go import go_build

BEGIN = "FROM scratch\nCOPY step /\n"
OWNER = f"cscm-test-steps-{os.getpid()}"
GIB, MIB = 1024**3, 1024**2
LIMITS = BuildLimits(memory=512 * MIB, processes=64, cpus=0.5, disk=256 * MIB, reserve=0)


def compiled_step(target: Path) -> Path:
    """Compile the program that the build steps run."""
    go_build(Path(__file__).parents[2] / "support/subject/step", target)
    return target


@dataclass
class Steps:
    """Builds below a directory, and removes the results from the engine."""

    directory: Path
    toolbox: Toolbox
    step: Path
    names: list[str] = field(default_factory=list)

    def order(
        self, dockerfile: str, key: str, *, caches: str = "", force: bool = False, timeout: float = 120
    ) -> BuildOrder:
        """Return the order to build a Dockerfile, with the program in its context, for the application of this key."""
        context = self.directory / uuid.uuid4().hex
        context.mkdir()
        shutil.copy2(self.step, context / "step")
        name = f"cscm.local/steps:{context.name}"
        self.names.append(name)
        return BuildOrder(
            context=context, dockerfile=f"{BEGIN}{dockerfile}".encode(), platform="linux/amd64", target=None,
            name=name, images={}, fetched={}, annotations={}, epoch=1, timeout=timeout, reproducible=False, key=key,
            caches=caches or key, force=force, max_size=GIB,
        )  # fmt: skip

    def builder(self, limits: BuildLimits | None = LIMITS, engine: LocalEngine = REMOTE_ENGINE) -> Buildx:
        registry = Registry(RegistryHttp("registry.test", lambda: ("", ""), insecure=True))
        config = self.directory / "docker"
        config.mkdir(exist_ok=True)
        return Buildx(
            Tool("docker", find_client(os.environ["PATH"]), "system"),
            self.toolbox.find("buildx"),
            lambda: contextlib.nullcontext(config),
            lambda: "",
            registry,
            limits=limits,
            engine=engine,
            owner=OWNER,
        )

    def result(self, dockerfile: str, key: str, *, caches: str = "", force: bool = False) -> str:
        """Build, and return the content of /said, which the last step wrote."""
        order = self.order(dockerfile, key, caches=caches, force=force)
        self.builder().build(order)
        client = find_client(os.environ["PATH"])
        made = subprocess.run([client, "create", order.name, "x"], check=True, capture_output=True, text=True)
        container = made.stdout.strip()
        try:
            packed = subprocess.run([client, "cp", f"{container}:/said", "-"], check=True, capture_output=True).stdout
        finally:
            subprocess.run([client, "rm", container], check=True, capture_output=True)
        return packed[512:].split(b"\0", 1)[0].decode()

    def remove(self) -> None:
        client = find_client(os.environ["PATH"])

        def remove(name: str) -> None:
            subprocess.run([client, "rmi", name], check=False, capture_output=True)

        map_concurrently(remove, self.names)  # the engine collects what is unused once for all that come together
        remove_groups(OWNER)


@contextlib.contextmanager
def steps_in(directory: Path, toolbox: Toolbox) -> Iterator[Steps]:
    """Provide builds for the tests of one module."""
    steps = Steps(directory, toolbox, compiled_step(directory / "step"))
    try:
        yield steps
    finally:
        steps.remove()
