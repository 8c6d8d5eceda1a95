"""Digests that nodes name in place of an image's own, although it is the same image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from supply_chain.errors import ImageNotFound
from supply_chain.model.image import Digest, ImageRef


class Manifests(Protocol):
    """A registry whose manifests can be read."""

    def manifest(self, ref: ImageRef) -> Mapping[str, Any]:
        """Return a manifest, verified by its digest; raise `ImageNotFound` if there is none."""


def has_same_content(registry: Manifests, ref: ImageRef, digest: Digest) -> bool:
    """Return whether another digest in an image's repository is a manifest of the same configuration and layers.

    Manifests differ in their annotations too, such as the revision. A node stores such images as one, and names as the
    image of a container (`imageID`) any of their digests.
    """
    try:
        manifests = [registry.manifest(ref), registry.manifest(ref.model_copy(update={"digest": digest}))]
    except ImageNotFound:
        return False
    one, other = ([each.get("config"), each.get("layers")] for each in manifests)
    return None not in one and one == other
