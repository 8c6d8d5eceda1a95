"""The layers of images, also of archived ones."""

from __future__ import annotations

from functools import lru_cache

from supply_chain.adapters.registry.client import Registry, parse_manifest
from supply_chain.adapters.registry.content_cache import ContentCache
from supply_chain.errors import ImageNotFound
from supply_chain.evidence.sbom import read_signed_sbom
from supply_chain.evidence.statement import SBOM
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import Digest, ImageRef, list_blobs
from supply_chain.model.tier import TierName
from supply_chain.policy.reading import Layers

MANY = 4096
"""Number of images whose layers are remembered while several things are decided one after the other."""


def layers_of(registry: Registry, evidence: EvidenceStore, cache: ContentCache) -> Layers:
    """Return a function that returns an image's layers: all blobs of its manifest except the configuration.

    The registry does not return the manifest of an archived image. It is then taken from the image's signed SBOM, and
    verified by its digest.
    """

    @lru_cache(MANY)
    def layers(ref: ImageRef) -> tuple[Digest, ...]:
        try:
            manifest = registry.manifest(ref)
        except ImageNotFound:
            content = _manifest_in_sbom(ref, evidence, cache)
            if content is None:
                raise
            manifest = parse_manifest(content, ref)
        return tuple(blob.digest for blob in list_blobs(manifest, ref)[1:])

    return layers


def _manifest_in_sbom(ref: ImageRef, evidence: EvidenceStore, cache: ContentCache) -> bytes | None:
    """Return the manifest in the signed SBOM, cached because an SBOM is large; None if curation signed no SBOM."""
    where = f"manifest in the SBOM of {ref}"
    if cached := cache.get(where):
        return cached[0]
    sbom = read_signed_sbom(evidence.read_verified(ref, TierName.CURATION, SBOM), evidence.referrers.content)
    if sbom is None:
        return None
    content = sbom.manifest
    cache.put(where, content, "")
    return content
