"""The response to an event about an image: what it means for deployments, and whom it concerns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field

from supply_chain.evidence.image_status import LifecycleDecision
from supply_chain.evidence.personal_decision import MOST_WORDS
from supply_chain.execution.deployment import Expected, read_deployed_image
from supply_chain.execution.isolation.settings import ResponseSettings
from supply_chain.execution.observation import Observation
from supply_chain.model.image import ImageRef, Model
from supply_chain.policy.outcome import IMAGE_BLOCKED
from supply_chain.text import sanitize_text

STOPS = {
    "cscm.image.blocked": "It is not deployed again: every gate refuses a blocked image, and its promotions are "
    "cancelled.",
    "cscm.image.verdict-changed": "The deploy gate judges its next deployment by the new verdict, promotions in "
    "progress included.",
    "cscm.deployment.drifted": "Nothing is stopped: what runs differs from what was deployed. Deploy it again.",
}
"""Event → its effect on new deployments."""
CANCELS = frozenset({"cscm.image.blocked"})
"""The events that cancel promotions under way."""
JUDGES = frozenset({*CANCELS, "cscm.image.verdict-changed"})
"""The events after which the deploy gate judges again what it published."""
UNKNOWN = "unknown"
"""The owner shown if none can be read."""


class Affected(Model):
    """A place where the image should run, and its last observation there."""

    environment: str
    application: str
    reverse_proxy: bool = Field(description="whether it is the application's reverse proxy, not the application")
    owner: str = Field(description="the application's")
    address: str
    container: str = Field(description="the application's, or its workload in a cluster")
    seen: str = Field(description="as the flow `monitor` observed it")

    @property
    def what(self) -> str:
        """What runs from the image, for people."""
        return f"the reverse proxy of {self.application}" if self.reverse_proxy else self.application


class Response(Model):
    """The report about an event."""

    event: str
    image: ImageRef
    owner: str
    running: tuple[Affected, ...]
    stops: str
    on_the_way: tuple[str, ...] = Field(default=(), description="runs that promote it")
    facts: tuple[str, ...] = Field(default=(), description="further facts in the event")
    unread: tuple[str, ...] = Field(default=(), description="what is unknown, and why")

    @property
    def fingerprint(self) -> str:
        """A digest that changes when there is something new to report."""
        what = (
            self.event,
            str(self.image),
            self.facts,
            self.unread,
            [(r.environment, r.what, r.container, r.seen) for r in self.running],
        )
        return hashlib.sha256(repr(what).encode()).hexdigest()


def find_deployments(image: ImageRef, expected: Iterable[Expected]) -> tuple[Expected, ...]:
    """Return the deployments that should run from an image.

    These are deployments of its application, and those that use it as their reverse proxy, whose record has only its
    digest.
    """
    return tuple(
        each
        for each in expected
        if image.digest == each.proxy or (image.digest, image.application) == (each.digest, each.application)
    )


def find_isolating(
    expected: Iterable[Expected],
    settings: ResponseSettings,
    observed: Sequence[Observation] = (),
    block: LifecycleDecision | None = None,
) -> tuple[tuple[Expected, str], ...]:
    """Return the deployments that an environment isolates after a block or for observed deviations, with the reason."""
    observations = {each.container: each for each in observed}
    deployments: list[tuple[Expected, str]] = []
    for each in expected:
        reasons = [f"{IMAGE_BLOCKED}: {block}"] if block and IMAGE_BLOCKED in settings.isolate else []
        if observation := observations.get(each.container):
            reasons += [f"{d.code}: {d.fact}" for d in observation.deviations if d.code in settings.isolate]
        if reasons:
            deployments.append((each, sanitize_text(reasons[0])[:MOST_WORDS]))
    return tuple(deployments)


def make_response(
    event: str,
    image: ImageRef,
    owners: Mapping[ImageRef, str],
    expected: Iterable[Expected],
    observed: Sequence[Observation],
    *,
    on_the_way: Sequence[str] = (),
    facts: Sequence[str] = (),
    unread: Sequence[str] = (),
) -> Response:
    """Return the response to an event about an image.

    `expected` are the deployments that should run from the image (`find_deployments`), `observed` are monitor's
    observations of them. `owners` gives the owners of the image and of the images of these deployments.
    """
    observations = {each.container: each for each in observed}
    running = tuple(
        Affected(
            environment=each.environment,
            application=each.application,
            reverse_proxy=read_deployed_image(each) != image,
            owner=owners.get(read_deployed_image(each), UNKNOWN),
            address=each.url,
            container=each.workload or each.name,
            seen=_describe_observation(observations.get(each.container)),
        )
        for each in expected
    )
    return Response(
        event=event,
        image=image,
        owner=owners.get(image, UNKNOWN),
        running=running,
        stops=STOPS.get(event, "It is unknown which deployments this affects."),
        on_the_way=tuple(on_the_way),
        facts=tuple(facts),
        unread=tuple(unread),
    )


def _describe_observation(observation: Observation | None) -> str:
    if observation is None:
        return "not observed"
    codes = sorted({each.code for each in observation.deviations})
    return ", ".join((observation.status, *(["healthy"] if observation.healthy else []), *codes))
