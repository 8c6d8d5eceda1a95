"""Build the dependencies of the release gate, and of the rescan that repeats its decision."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from blocks.tier import Tier
from blocks.workbench import Workbench
from orchestration.clock import now
from supply_chain.adapters.registry.client import Registry, parse_manifest
from supply_chain.adapters.registry.content_cache import ContentCache
from supply_chain.adapters.tools.grype import Grype
from supply_chain.curation.rescan import read_base_decisions
from supply_chain.errors import ImageNotFound
from supply_chain.evidence.sbom import sbom_in
from supply_chain.evidence.statement import SBOM
from supply_chain.evidence.store import EvidenceStore
from supply_chain.fleet.rescan import RescanPorts
from supply_chain.model.image import Digest, ImageRef, blobs_of
from supply_chain.model.tier import BASES, TierName
from supply_chain.policy.reading import Layers

MANY = 4096
"""Number of images whose layers are remembered while several things are decided one after the other."""


def layers_of(registry: Registry, evidence: EvidenceStore, workbench: Workbench) -> Layers:
    """Return a function that returns an image's layers: all blobs of its manifest except the configuration.

    The registry does not return the manifest of an archived image. It is then taken from the image's signed SBOM, and
    verified by its digest.
    """

    @lru_cache(MANY)
    def layers(ref: ImageRef) -> tuple[Digest, ...]:
        try:
            manifest = registry.manifest(ref)
        except ImageNotFound:
            content = _manifest_in_sbom(ref, evidence, workbench.content_cache)
            if content is None:
                raise
            manifest = parse_manifest(content, ref)
        return tuple(blob.digest for blob in blobs_of(manifest, ref)[1:])

    return layers


def _manifest_in_sbom(ref: ImageRef, evidence: EvidenceStore, kept: ContentCache) -> bytes | None:
    """Return the manifest in the signed SBOM, cached because an SBOM is large; None if curation signed no SBOM."""
    where = f"manifest in the SBOM of {ref}"
    if known := kept.get(where):
        return known[0]
    sbom = sbom_in(evidence.verified(ref, TierName.CURATION, SBOM), evidence.referrers.content)
    if sbom is None:
        return None
    content = sbom.manifest
    kept.put(where, content, "")
    return content


def base_images(tier: Tier) -> list[ImageRef]:
    """Return every image of an internal base, including archived ones; the newest image of each base comes first."""
    return [
        ImageRef(repository=repository, digest=each.digest)
        for repository in tier.ecr.repositories(f"{BASES}/")
        for each in tier.ecr.images(repository)
        if each.subject is None
    ]


def rescan_ports(tier: Tier, workbench: Workbench, scanner: Grype) -> RescanPorts:
    """Return the dependencies of a rescan in the curation tier; content read by digest is cached for the next one."""
    registry = replace(tier.http, memory=workbench.content_cache)
    evidence = replace(tier.evidence(workbench), referrers=registry, wide=1)
    bases = base_images(tier)
    return RescanPorts(
        generator=tier.syft(workbench),
        scanner=scanner,
        results=workbench.report_cache,
        registry=registry,
        evidence=evidence,
        repositories=tier.ecr,
        layers=layers_of(registry, evidence, workbench),
        bases=bases,
        ruled=read_base_decisions(bases, evidence),
        production=frozenset(place.name for place in workbench.environments() if place.production),
        now=now,
    )
