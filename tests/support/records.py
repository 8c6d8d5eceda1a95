"""Deployment records, and the registry that has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.evidence.store import CREATED
from supply_chain.execution.deploy import Deployment
from supply_chain.execution.records import record
from supply_chain.model.container import profile
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.manifest import Probe
from supply_chain.model.tier import TierName
from tests.support.world import World

FIRST = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
SECOND = ImageRef(repository="curated/hello", digest="sha256:" + "b" * 64)
EXECUTION = TierName.EXECUTION


class Registry:
    """The registry and ECR API on top of the referrers in memory."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[str] = []
        self.listed: list[str] = []
        self.ahead: dict[datetime, timedelta] = {}

    def repositories(self, prefix: str) -> tuple[str, ...]:
        self.listed.append(prefix)
        return tuple(name for name in self.world.registry.held if name.startswith(prefix))

    def pushed(self, repository: str) -> tuple[tuple[Digest, datetime], ...]:
        """Each entry was pushed one second after signing; `ahead` maps a signing time to the lead of its clock."""
        held = self.world.registry.held.get(repository, {}).items()
        signed = [(digest, self._signed(annotations)) for digest, (_, _, _, annotations) in held]
        times = [(digest, at + timedelta(seconds=1) - self.ahead.get(at, timedelta())) for digest, at in signed]
        return tuple(sorted(times, key=lambda each: each[1], reverse=True))

    def _signed(self, annotations: dict[str, str]) -> datetime:
        return datetime.fromisoformat(annotations[CREATED]) if CREATED in annotations else datetime.now(UTC)

    def manifest(self, ref: ImageRef) -> dict[str, Any]:
        self.asked.append(ref.repository)
        subject, _, _, annotations = self.world.registry.held[ref.repository][ref.digest]
        return {"subject": {"digest": subject} if subject else None, "annotations": annotations or None}


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
            "reverse_proxy": "2" * 64,
            "proxy": "sha256:" + "f" * 64,
            "address": "127.0.0.1",
            "port": 8080,
            "probe": Probe(port=8080),
            "settings": {"GREETING": "hello"},
            "profile": profile(make.manifest().runtime),
            "configuration": "sha256:" + "e" * 64,
            "changed": True,
            "started_at": make.noon,
        }
        deployment = Deployment(**{**values, **changes})
        return record(deployment, ref, world.store(signer), make.noon + timedelta(seconds=after))

    return run
