"""Resolution of an image name that a person typed to a reference by digest."""

from __future__ import annotations

import contextlib
import re

from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.model.image import DIGEST, HEXADECIMAL, ImageRef
from supply_chain.model.registry_ports import DigestFinder
from supply_chain.model.tier import CURATED, OFFERED, name_curated_repository


def find(image: str, prefix: str, digests: DigestFinder) -> ImageRef:
    """Return the image that a person names by `repository@sha256:…`, by a digest, or by 12 or more of its digits.

    A full reference is returned as it is. A digest is searched in the repositories below `prefix`; archived images are
    found too. Raises `DeclarationInvalid` if the text is not the name of an image, is ambiguous, or names a repository
    outside `prefix`; raises `ImageNotFound` if no image has such a digest.
    """
    repository, at, typed = image.strip().rpartition("@")
    if at and not repository.startswith(prefix):
        raise DeclarationInvalid(
            f"{repository} is not one of the repositories {prefix}….\n"
            "Name the image as the run that made it printed it, or by its digest."
        )
    if HEXADECIMAL.fullmatch(typed) and not (at and re.fullmatch(DIGEST, typed)):
        return _the_one(f"sha256:{typed.removeprefix('sha256:')}", prefix, repository, digests)
    return ImageRef.parse(image)


def find_stored(image: str, digests: DigestFinder) -> ImageRef:
    """Return the curated image that a person names, archived or not; `dev/hello@…` names it before it is curated.

    Raises `ImageNotFound` if the curated repository does not have the image: a decision about a misspelt name would
    have no effect.
    """
    offered = image.strip().startswith(OFFERED)
    ref = find(image, OFFERED if offered else CURATED, digests)
    if not offered:
        _check(ref, digests)
    return ref.with_repository(name_curated_repository(ref.application))


def _check(ref: ImageRef, digests: DigestFinder) -> None:
    with contextlib.suppress(ImageNotFound):
        digests.status(ref)
        return
    others = ", ".join(each.repository for each in digests.find_by_digest(ref.digest, CURATED))
    where = f"{others} has" if others else f"No repository {CURATED}… has"
    raise ImageNotFound(
        f"{ref.repository} does not have {ref.digest}. {where} it.\n"
        f"Name the image as curated/NAME@sha256:…; one that is not curated yet as {OFFERED}NAME@sha256:…."
    )


def _the_one(begins: str, prefix: str, repository: str, digests: DigestFinder) -> ImageRef:
    images = [
        each for each in digests.find_by_digest(begins, repository or prefix) if repository in ("", each.repository)
    ]
    if not images:
        nobody = f"{repository} does not have" if repository else f"No repository {prefix}… has"
        raise ImageNotFound(
            f"{nobody} {begins}.\nName the image as the run that made it printed it, or as `cscm images` does."
        )
    if len(images) > 1:
        several = len({each.digest for each in images}) > 1
        named = ", ".join(str(each) if several else each.repository for each in images)
        raise DeclarationInvalid(
            f"{begins} is in several repositories: {named}.\nName the one you mean: repository@digest."
        )
    return images[0]
