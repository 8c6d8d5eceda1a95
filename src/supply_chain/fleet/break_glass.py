"""Deployments that rest on a break-glass, by the signed records."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.inventory import FleetLister
from supply_chain.model.image import ImageRef, Model
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import UsedBreakGlass


class OpenBreakGlass(Model):
    """A deployment that rests on a break-glass: it is open until another deployment takes its place."""

    image: ImageRef
    environment: str
    owner: str
    use: UsedBreakGlass
    reasons: tuple[str, ...] = Field(
        default=(), description="the codes of the deploy gate's last verdict, if that refuses the image"
    )


def find_open(inventory: FleetLister) -> tuple[OpenBreakGlass, ...]:
    """Return the deployments that rest on a break-glass, those that end first at the beginning."""
    applications = {each.application for each in inventory.running() if each.break_glass}
    uses = [
        each
        for application in applications
        for image in (*inventory.images(application), *inventory.list_removed(application))
        for each in _open(image)
    ]
    return tuple(sorted(uses, key=lambda each: (each.use.expires, str(each.image), each.environment)))


def _open(image: FleetImage) -> Iterator[OpenBreakGlass]:
    for each in image.running:
        if each.break_glass is None:
            continue
        refused = (r for r in image.refusals if (r.gate, r.environment) == (Gate.DEPLOY, each.environment))
        yield OpenBreakGlass(
            image=image.ref,
            environment=each.environment,
            owner=image.owner,
            use=each.break_glass,
            reasons=tuple(dict.fromkeys(reason.code for verdict in refused for reason in verdict.reasons)),
        )
