"""Resolve what a person typed to a reference by digest."""

from __future__ import annotations

from blocks import Tier
from orchestration.steps import in_thread
from supply_chain.fleet.find import find as found
from supply_chain.fleet.find import find_stored as found_stored
from supply_chain.model.image import ImageRef


async def find(image: str, prefix: str, tier: Tier) -> ImageRef:
    """Return the result of `supply_chain.fleet.find.find` in a tier's registry."""
    return await in_thread(found, image, prefix, tier.ecr)


async def find_stored(image: str, tier: Tier) -> ImageRef:
    """Return the result of `supply_chain.fleet.find.find_stored` in a tier's registry."""
    return await in_thread(found_stored, image, tier.ecr)
