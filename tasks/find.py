"""find: what a person typed becomes a reference by digest."""

from __future__ import annotations

import re

from blocks import Tier
from supply_chain.errors import DeclarationInvalid
from supply_chain.image import DIGEST, ImageRef
from tasks.running import in_thread


async def find(image: str, prefix: str, tier: Tier) -> ImageRef:
    """`repository@sha256:…` as it is; a digest alone is looked for below `prefix`; others are refused."""
    if re.fullmatch(DIGEST, image.strip()):
        return await in_thread(lambda: tier.ecr.find(image.strip(), prefix))
    ref = ImageRef.parse(image)
    if not ref.repository.startswith(prefix):
        raise DeclarationInvalid(
            f"{ref.repository} is not one of the repositories {prefix}… that this tier takes images from.\n"
            "Name the image as the tier before printed it."
        )
    return ref
