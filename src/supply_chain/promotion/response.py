"""Response: what an event about an image means for what runs, and whom it concerns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydantic import Field

from supply_chain.execution.deploy import Expected
from supply_chain.execution.monitor import Observation
from supply_chain.image import Frozen, ImageRef

STOPS = {
    "cscm.image.blocked": "Nothing new of it is deployed: every gate refuses a blocked image, and what was on its way "
    "was cancelled.",
    "cscm.image.verdict-changed": "The next deployment of it is judged by what is known now; what is on its way meets "
    "that gate too.",
    "cscm.deployment.drifted": "Nothing is stopped: what runs is not what was deployed. Deploy it again.",
}
"""Event → what it does to new deployments."""
CANCELS = frozenset({"cscm.image.blocked"})
"""The events that end what is on its way."""


class Running(Frozen):
    """One place where the image should run, and how it was seen there."""

    environment: str
    address: str
    container: str
    seen: str = Field(description="as monitor saw it")


class Response(Frozen):
    """What is told of an event."""

    happened: str
    image: ImageRef
    owner: str
    running: tuple[Running, ...]
    stops: str
    on_the_way: tuple[str, ...] = Field(default=(), description="runs that promote it")
    facts: tuple[str, ...] = Field(default=(), description="what the event says besides")

    @property
    def fingerprint(self) -> str:
        """Changes when there is something new to tell."""
        what = (
            self.happened,
            str(self.image),
            self.facts,
            [(r.environment, r.container, r.seen) for r in self.running],
        )
        return hashlib.sha256(repr(what).encode()).hexdigest()


def response(
    happened: str,
    image: ImageRef,
    owner: str,
    expected: Sequence[Expected],
    observed: Sequence[Observation],
    *,
    on_the_way: Sequence[str] = (),
    facts: Sequence[str] = (),
) -> Response:
    """What to tell: `expected` is all that should run by the signed records, `observed` what monitor sees of it."""
    seen = {each.container: each for each in observed}
    running = tuple(
        Running(environment=e.environment, address=e.url, container=e.name, seen=_seen(seen.get(e.container)))
        for e in expected
        if (e.digest, e.application) == (image.digest, image.application)
    )
    return Response(
        happened=happened,
        image=image,
        owner=owner,
        running=running,
        stops=STOPS.get(happened, "Nothing is known of what this stops."),
        on_the_way=tuple(on_the_way),
        facts=tuple(facts),
    )


def _seen(observation: Observation | None) -> str:
    if observation is None:
        return "not looked at"
    codes = sorted({each.code for each in observation.deviations})
    return ", ".join((observation.status, *(["healthy"] if observation.healthy else []), *codes))
