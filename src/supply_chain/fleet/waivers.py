"""Which images rest on which waiver, by the last verdicts about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field

from supply_chain.fleet.image import FleetImage
from supply_chain.model.image import ImageRef, Model
from supply_chain.policy.waivers import WaiverReport


class WaiverUse(Model):
    """A waiver, and the images that rest on it."""

    waiver: WaiverReport
    images: tuple[ImageRef, ...] = Field(default=(), description="whose last verdict of a gate rests on it")
    owners: tuple[str, ...] = Field(default=(), description="the owners of these images")


def find_uses(waivers: Sequence[WaiverReport], images: Iterable[FleetImage]) -> tuple[WaiverUse, ...]:
    """Return each waiver with the images that rest on it, in the order of `waivers`."""
    used: dict[str, dict[ImageRef, str]] = {each.name: {} for each in waivers}
    for image in images:
        for verdict in image.last_judgements:
            for waiver in verdict.waivers:
                used.get(waiver.partition("@")[0], {})[image.ref] = image.owner
    return tuple(
        WaiverUse(waiver=each, images=tuple(used[each.name]), owners=tuple(sorted({*used[each.name].values()} - {""})))
        for each in waivers
    )
