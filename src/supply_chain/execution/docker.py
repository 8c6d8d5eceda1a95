"""A container host as the target of an environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from supply_chain.concurrency import run_both
from supply_chain.execution.deploy import Order, deploy
from supply_chain.execution.deployment import Deployment, Expected
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.monitor import monitor
from supply_chain.execution.observation import Observation
from supply_chain.execution.supply import Supply, remove_unneeded
from supply_chain.execution.target import Request
from supply_chain.model.container import Engine, Wait
from supply_chain.model.declaration import Classification
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.tier import BASES

PROXY = f"{BASES}/proxy"
"""The repository of the released reverse proxies, which hold an environment's addresses."""


@dataclass(frozen=True)
class DockerTarget:
    """An environment on a container host, as `Target` describes."""

    environment: DockerEnvironment
    connect: Callable[[], Engine]
    """Returns the engine; raises `EngineUnavailable`."""
    plain: Callable[[Engine], Supply]
    confidential: Callable[[Engine], Supply]
    """For images that are classified as confidential."""
    released: Callable[[str], Digest]
    """Returns the digest of a released base by name, the newest unless the name has a digest.

    Raises `BaseMissing`.
    """
    registry: str
    """The registry's host."""
    now: Callable[[], datetime]
    wait: Wait

    def deploy(
        self,
        request: Request,
        *,
        before_start: Callable[[], object],
        may_serve: Callable[[], object],
        recorded: Callable[[Deployment], Deployment],
    ) -> Deployment:
        """Run the admitted image, as `Target` describes; `deploy.deploy` has the other errors."""
        engine = self.connect()
        name = f"{PROXY}@{self.environment.proxy}" if self.environment.proxy else PROXY
        proxy, _ = run_both(lambda: self.released(name), before_start)
        order = Order(request.admitted, request.declaration, self.environment, proxy, request.run_id, request.force)
        confidential = request.declaration.classification is Classification.CONFIDENTIAL
        plain = self.plain(engine)

        def supply() -> Digest:
            application = self.confidential(engine) if confidential else plain
            reference, _ = run_both(
                lambda: application.supply(order.admitted.facts.ref),
                lambda: plain.supply(ImageRef(repository=PROXY, digest=proxy)),
            )
            return reference

        def still_released() -> None:
            self.released(f"{PROXY}@{proxy}")  # raises if the proxy was blocked meanwhile
            may_serve()

        return deploy(
            engine,
            order,
            supply,
            now=self.now,
            wait=self.wait,
            may_serve=still_released,
            recorded=recorded,
        )

    def monitor(self, expected: Sequence[Expected], application: str | None = None) -> tuple[Observation, ...]:
        """Return what runs, as `Target` describes."""
        return monitor(self.connect(), expected, [self.environment], self.now, application)

    def observe(self, expected: Sequence[Expected]) -> tuple[Observation, ...]:
        """Return how these deployments are, as `Target` describes."""
        return monitor(self.connect(), expected, (), self.now)

    def remove_unneeded(self, ref: ImageRef) -> None:
        """Remove images from the engine, as `Target` describes."""
        remove_unneeded(self.connect, self.registry, (ref.repository, PROXY))

    def undo_unrecorded(self, ref: ImageRef) -> None:
        """Do nothing, as `Target` describes."""
