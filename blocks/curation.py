"""Adapters put together for curation's own gate, and for the rescan that judges by it again."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from blocks.tier import Tier
from blocks.workbench import Workbench
from orchestration.clock import now
from supply_chain.adapters.registry.client import Registry, manifest_in
from supply_chain.adapters.registry.content_cache import KeptContent
from supply_chain.adapters.tools.grype import Grype
from supply_chain.curation.rescan import ruled_bases
from supply_chain.errors import ImageNotFound
from supply_chain.evidence.sbom import sbom_in
from supply_chain.evidence.statement import SBOM
from supply_chain.evidence.store import EvidenceStore
from supply_chain.fleet.rescan import RescanBench
from supply_chain.model.image import Digest, ImageRef, blobs_of
from supply_chain.model.tier import BASES, TierName
from supply_chain.policy.dossier import Layers

MANY = 4096
"""Images of which the layers are remembered while one thing is judged after the other."""


def layers_of(registry: Registry, evidence: EvidenceStore, workbench: Workbench) -> Layers:
    """What gives an image's layers: everything that its manifest names but the configuration.

    What is archived the registry does not give: its signed SBOM holds the manifest, which is believed for its digest.
    """

    @lru_cache(MANY)
    def layers(ref: ImageRef) -> tuple[Digest, ...]:
        try:
            manifest = registry.manifest(ref)
        except ImageNotFound:
            content = _manifest_in_sbom(ref, evidence, workbench.kept_content)
            if content is None:
                raise
            manifest = manifest_in(content, ref)
        return tuple(blob.digest for blob in blobs_of(manifest, ref)[1:])

    return layers


def _manifest_in_sbom(ref: ImageRef, evidence: EvidenceStore, kept: KeptContent) -> bytes | None:
    """Kept, as an SBOM is large; None where curation signed none."""
    where = f"manifest in the SBOM of {ref}"
    if known := kept.get(where):
        return known[0]
    sbom = sbom_in(evidence.verified(ref, TierName.CURATION, SBOM), evidence.referrers.content)
    if sbom is None:
        return None
    content = sbom.manifest
    kept.keep(where, content, "")
    return content


def base_images(tier: Tier) -> list[ImageRef]:
    """Every image of an internal base, archived ones too, the last one of each first."""
    return [
        ImageRef(repository=repository, digest=each.digest)
        for repository in tier.ecr.repositories(f"{BASES}/")
        for each in tier.ecr.images(repository)
        if each.subject is None
    ]


def rescan_bench(tier: Tier, workbench: Workbench, scanner: Grype) -> RescanBench:
    """What a rescan needs, as curation may read, sign and believe; what lies under a digest is kept for the next."""
    registry = replace(tier.http, memory=workbench.kept_content)
    evidence = replace(tier.evidence(workbench), referrers=registry, wide=1)
    bases = base_images(tier)
    return RescanBench(
        generator=tier.syft(workbench),
        scanner=scanner,
        results=workbench.kept_results,
        registry=registry,
        evidence=evidence,
        repositories=tier.ecr,
        layers=layers_of(registry, evidence, workbench),
        bases=bases,
        ruled=ruled_bases(bases, evidence),
        production=frozenset(place.name for place in workbench.environments() if place.production),
        now=now,
    )
