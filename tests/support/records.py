"""Deployment records, and the registry that has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.execution.deployment import Deployment, DockerPlace
from supply_chain.execution.records import record
from supply_chain.model.container import make_profile
from supply_chain.model.declaration import Probe
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.memory_ecr import MemoryEcr
from tests.support.world import World

FIRST = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
SECOND = ImageRef(repository="curated/hello", digest="sha256:" + "b" * 64)
EXECUTION = TierName.EXECUTION


class Registry(MemoryEcr):
    """ECR and registry that record what is read. `ahead` maps a signing time to the lead of its signer's clock."""

    def __init__(self, world: World) -> None:
        super().__init__(world.registry)
        self.asked: list[str] = []
        self.listed: list[str] = []
        self.ahead: dict[datetime, timedelta] = {}

    def repositories(self, prefix: str) -> tuple[str, ...]:
        self.listed.append(prefix)
        return super().repositories(prefix)

    def manifest(self, ref: ImageRef) -> dict[str, Any]:
        self.asked.append(ref.repository)
        return self.registry.manifest(ref)

    def push_after(self, signed: datetime) -> None:
        """Push, from now on, one second after something was signed."""
        self.registry.clock = lambda: signed + timedelta(seconds=1) - self.ahead.get(signed, timedelta())


@pytest.fixture
def registry(world: World) -> Registry:
    return Registry(world)


@pytest.fixture
def deployed(world: World, make: SimpleNamespace, registry: Registry) -> Callable[..., Deployment]:
    """Return a function that records a deployment a number of seconds after noon."""

    def run(ref: ImageRef = FIRST, after: float = 0, signer: TierName = EXECUTION, **changes: Any) -> Deployment:
        values: dict[str, Any] = {
            "environment": "staging",
            "application": "hello",
            "digest": ref.digest,
            "container": "1" * 64,
            "name": f"staging-hello-{after}",
            "place": DockerPlace(reverse_proxy="2" * 64, proxy="sha256:" + "f" * 64, address="127.0.0.1", port=8080),
            "probe": Probe(port=8080),
            "settings": {"GREETING": "hello"},
            "profile": make_profile(make.declaration().runtime),
            "configuration": "sha256:" + "e" * 64,
            "changed": True,
            "started_at": make.noon,
        }
        now = make.noon + timedelta(seconds=after)
        registry.push_after(now)
        return record(Deployment(**{**values, **changes}), ref, world.store(signer), now)

    return run
