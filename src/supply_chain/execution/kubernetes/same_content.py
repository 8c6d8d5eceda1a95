"""Digests that nodes name in place of an image's own, although it is the same image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from supply_chain.errors import ImageDamaged, ImageNotFound
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.registry_ports import ManifestReader

DIGEST = TypeAdapter[Digest](Digest)


def has_same_content(registry: ManifestReader, ref: ImageRef, digest: Digest) -> bool:
    """Return whether another digest in an image's repository is a manifest of the same configuration and layers.

    Manifests differ in their annotations too, such as the revision. A node stores such images as one, and names as the
    image of a container (`imageID`) any of their digests. A digest that is none, or a manifest that is gone or invalid,
    is not the same. Raises the errors of a registry that does not answer.
    """
    try:
        other = ref.model_copy(update={"digest": DIGEST.validate_python(digest)})
        one, another = (_find_content(registry.manifest(each)) for each in (ref, other))
    except (ValidationError, ImageNotFound, ImageDamaged):
        return False
    return one is not None and one == another


def _find_content(manifest: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return configuration and layers of an image's manifest; None for an index, which names neither."""
    is_image = "manifests" not in manifest and "config" in manifest and "layers" in manifest
    return (manifest["config"], manifest["layers"]) if is_image else None
