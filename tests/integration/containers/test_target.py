"""A container host keeps the contract of targets."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.execution.docker import DockerTarget
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.model.container import APPLICATION, ENVIRONMENT, ROLE, ContainerSpec, make_profile
from supply_chain.model.declaration import Runtime
from supply_chain.model.image import Digest, ImageRef
from tests.contract.target import Harness, TargetContract
from tests.integration.containers.images import Declared, Image, now

pytestmark = pytest.mark.real


class Loaded:
    """A supply for images that are already in the engine."""

    def supply(self, ref: ImageRef) -> Digest:
        return ref.digest


class TestDockerTarget(TargetContract):
    """The contract, on the engine of this machine."""

    @pytest.fixture
    def harness(
        self, engine: DockerEngine, environment: DockerEnvironment, service: Declared, proxy: str, image: Image
    ) -> Harness:
        def running() -> set[Digest]:
            ours = engine.find({ENVIRONMENT: environment.name, ROLE: "application"})
            return {each.image for each in ours if each.running}

        def add_foreign(digest: Digest) -> str:
            labels = {ENVIRONMENT: environment.name, APPLICATION: "subject"}
            name = f"foreign-{uuid4().hex[:8]}"
            spec = ContainerSpec(image=digest, name=name, labels=labels, profile=make_profile(Runtime()))
            engine.start(engine.create(spec))
            return name

        target = DockerTarget(
            environment, lambda: engine, lambda _: Loaded(), lambda _: Loaded(),
            lambda name: name.partition("@")[2] or proxy, "registry.test", now, time.sleep,
        )  # fmt: skip
        return Harness(target, service(), image, image("crash"), running, add_foreign)
