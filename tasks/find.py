"""find: what a person typed becomes a reference by digest."""

from __future__ import annotations

import re

from blocks import Tier
from supply_chain.image import DIGEST, ImageRef
from tasks.running import in_thread


async def find(image: str, prefix: str, tier: Tier) -> ImageRef:
    """`repository@sha256:…` as it is; a digest alone is looked for in the repositories below `prefix`."""
    if re.fullmatch(DIGEST, image.strip()):
        return await in_thread(lambda: tier.ecr.find(image.strip(), prefix))
    return ImageRef.parse(image)
