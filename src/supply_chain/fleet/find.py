"""Find: what a person typed becomes a reference by digest."""

from __future__ import annotations

import contextlib
import re
from typing import Protocol

from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.model.image import DIGEST, HEXADECIMAL, ImageRef, StorageStatus
from supply_chain.model.tier import CURATED, OFFERED, curated_repository


class Digests(Protocol):
    """What is asked of a registry."""

    def having(self, begins: str, prefix: str) -> tuple[ImageRef, ...]:
        """The images, archived ones too, whose digest begins so, in the repositories whose names do."""

    def status(self, ref: ImageRef) -> StorageStatus:
        """How an image is stored; `ImageNotFound` where it is not there."""


def find(image: str, prefix: str, digests: Digests) -> ImageRef:
    """`repository@sha256:…` as it is; a digest, or 12 digits of it, is looked for below `prefix`, archived or not.

    `DeclarationInvalid` for what is no name of an image, names several, or one elsewhere; `ImageNotFound` where no
    image has such a digest.
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


def find_stored(image: str, digests: Digests) -> ImageRef:
    """The curated image that a person names, archived or not; `dev/hello@…` is the same one before it is curated.

    `ImageNotFound` where a curated repository does not have it: what was said of a misspelt name would hold for
    nothing.
    """
    offered = image.strip().startswith(OFFERED)
    ref = find(image, OFFERED if offered else CURATED, digests)
    if not offered:
        _check(ref, digests)
    return ref.moved_to(curated_repository(ref.application))


def _check(ref: ImageRef, digests: Digests) -> None:
    with contextlib.suppress(ImageNotFound):
        digests.status(ref)
        return
    others = ", ".join(each.repository for each in digests.having(ref.digest, CURATED))
    where = f"{others} has" if others else f"No repository {CURATED}… has"
    raise ImageNotFound(
        f"{ref.repository} does not have {ref.digest}. {where} it.\n"
        f"Name the image as curated/NAME@sha256:…; one that is not curated yet as {OFFERED}NAME@sha256:…."
    )


def _the_one(begins: str, prefix: str, repository: str, digests: Digests) -> ImageRef:
    there = [each for each in digests.having(begins, repository or prefix) if repository in ("", each.repository)]
    if not there:
        nobody = f"{repository} does not have" if repository else f"No repository {prefix}… has"
        raise ImageNotFound(
            f"{nobody} {begins}.\nName the image as the run that made it printed it, or as `cscm images` does."
        )
    if len(there) > 1:
        several = len({each.digest for each in there}) > 1
        named = ", ".join(str(each) if several else each.repository for each in there)
        raise DeclarationInvalid(
            f"{begins} is in several repositories: {named}.\nName the one you mean: repository@digest."
        )
    return there[0]
