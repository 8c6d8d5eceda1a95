"""Images, declarations and deployments of these tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.execution.deploy import Order, deploy
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.model.declaration import Service
from supply_chain.model.image import Digest, ImageRef
from tests.support.facts import admitted, deploy_facts
from tests.support.policies import DEPLOY


def now() -> datetime:
    return datetime.now(UTC)


Image = Callable[..., str]
Declared = Callable[..., Service]


def order(image: Digest, environment: DockerEnvironment, declaration: Service, proxy: str) -> Order:
    """Return the order to deploy an admitted image."""
    ref = ImageRef(repository="curated/subject", digest=image)
    verdict = admitted(deploy_facts(declaration, ref=ref), DEPLOY)
    return Order(admitted=verdict, declaration=declaration, environment=environment, proxy=proxy, run_id="run-1")


def carried_out(
    engine: DockerEngine,
    wanted: Order,
    supply: Callable[[], Digest] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Deployment:
    """Deploy an order, without a second check by the gate and without a signature; images are already in the engine."""
    return deploy(
        engine,
        wanted,
        supply or (lambda: wanted.digest),
        now=now,
        wait=wait,
        may_serve=lambda: None,
        recorded=lambda done: done,
    )
