"""The port of what an environment runs on: a container host, or a namespace of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from supply_chain.execution.deployment import Deployment, Expected
from supply_chain.execution.observation import Observation
from supply_chain.model.declaration import Service
from supply_chain.model.image import ImageRef
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted


@dataclass(frozen=True)
class Request:
    """A request to deploy an admitted image, as declared, to the environment of a target.

    `run_id` marks what is created. If `force` is true, it is created again even if the same runs.
    """

    admitted: Admitted[DeployFacts]
    declaration: Service
    run_id: str
    force: bool = False

    @property
    def ref(self) -> ImageRef:
        """The image."""
        return self.admitted.facts.ref


class Target(Protocol):
    """What one environment runs on."""

    def deploy(
        self,
        request: Request,
        *,
        before_start: Callable[[], object],
        may_serve: Callable[[], object],
        recorded: Callable[[Deployment], Deployment],
    ) -> Deployment:
        """Run the admitted image; return the deployment, also if the same one already runs and is healthy.

        `before_start` is called before anything is created, and `may_serve` before the image gets requests; what they
        raise ends the deployment. `recorded` gets the deployment as soon as it serves, and returns it as recorded.

        Raises `DeploymentFailed`, with the last output, if the image does not become ready. Then, and after any other
        error before it serves, what ran before continues to serve and nothing remains of the new deployment.
        """

    def monitor(self, expected: Sequence[Expected], application: str | None = None) -> tuple[Observation, ...]:
        """Return an observation of each deployment to the environment, and of what else runs there.

        With `application`, `expected` contains only its deployments, and of others only what carries its name is
        reported. Do not call this during a deployment to the environment.
        """

    def observe(self, expected: Sequence[Expected]) -> tuple[Observation, ...]:
        """Return an observation of each of these deployments only."""

    def remove_unneeded(self, ref: ImageRef) -> None:
        """Remove what earlier deployments of an application brought and nothing needs any more; log what stays."""

    def undo_unrecorded(self, ref: ImageRef) -> None:
        """Undo what a killed deployment of an image left, if the gate refuses it now and no record names it.

        Whoever applies it later would deploy it otherwise. What stays is logged. A target to which nothing but the
        chain brings images does nothing: its next deployment replaces what was left.
        """
