"""find: what a person typed becomes a reference by digest."""

from __future__ import annotations

import re

from blocks import Tier
from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.fleet.where import HEXADECIMAL
from supply_chain.image import DIGEST, ImageRef
from supply_chain.tier import CURATED, OFFERED, curated_repository
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


async def find_stored(image: str, tier: Tier) -> ImageRef:
    """The curated image that a person names, archived or not; `dev/hello@…` is the same one before it is curated.

    `ImageNotFound` where a curated repository does not have it: what was said of a misspelt name would hold for
    nothing.
    """
    if HEXADECIMAL.fullmatch(image.strip()):
        return await in_thread(_search, f"sha256:{image.strip().removeprefix('sha256:')}", tier)
    ref = ImageRef.parse(image)
    if not ref.repository.startswith((OFFERED, CURATED)):
        raise DeclarationInvalid(
            f"{ref.repository} is no repository of images.\nName the image as curated/NAME@sha256:…, or by its digest."
        )
    if ref.repository.startswith(CURATED):
        await in_thread(_check, ref, tier)
    return ref.moved_to(curated_repository(ref.application))


def _check(ref: ImageRef, tier: Tier) -> None:
    if ref.digest in {each.digest for each in tier.ecr.images(ref.repository)}:
        return
    there = ", ".join(each.repository for each in _having(ref.digest, tier))
    where = f"{there} has" if there else f"No repository {CURATED}… has"
    raise ImageNotFound(
        f"{ref.repository} does not have {ref.digest}. {where} it.\n"
        f"Name the image as curated/NAME@sha256:…; one that is not curated yet as {OFFERED}NAME@sha256:…."
    )


def _having(begins: str, tier: Tier) -> list[ImageRef]:
    """The images in curated repositories whose digests begin so."""
    return [
        ImageRef(repository=repository, digest=each.digest)
        for repository in tier.ecr.repositories(CURATED)
        for each in tier.ecr.images(repository)
        if each.digest.startswith(begins)
    ]


def _search(begins: str, tier: Tier) -> ImageRef:
    there = _having(begins, tier)
    if not there:
        raise ImageNotFound(f"No repository {CURATED}… has {begins}.\nName the image as curated/NAME@sha256:….")
    if len(there) > 1:
        digests = {each.digest for each in there}
        named = ", ".join(each.repository if len(digests) == 1 else str(each) for each in there)
        raise DeclarationInvalid(
            f"{begins} is in several repositories: {named}.\nName the one you mean: repository@digest."
        )
    return there[0]
