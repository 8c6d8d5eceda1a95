"""Adapters put together for curation's own gate, and for the rescan that judges by it again."""

from __future__ import annotations

from dataclasses import replace

from blocks.tier import Tier
from blocks.workbench import Workbench, now
from supply_chain.adapters.grype import Grype
from supply_chain.adapters.registry import Registry
from supply_chain.curation.rescan import ruled_bases
from supply_chain.fleet.rescan import Bench
from supply_chain.image import Digest, ImageRef, blobs_of
from supply_chain.policy.dossier import Layers
from supply_chain.tier import BASES


def layers_of(registry: Registry) -> Layers:
    """What gives an image's layers: everything that its manifest names but the configuration."""

    def layers(ref: ImageRef) -> tuple[Digest, ...]:
        return tuple(blob.digest for blob in blobs_of(registry.manifest(ref), ref)[1:])

    return layers


def base_images(tier: Tier) -> list[ImageRef]:
    """Every image of an internal base, the last one of each first."""
    return [ref for repository in tier.ecr.repositories(f"{BASES}/") for ref in tier.ecr.newest_first(repository)]


def _bases(tier: Tier) -> list[ImageRef]:
    """Every image of an internal base, archived ones too."""
    return [
        ImageRef(repository=repository, digest=each.digest)
        for repository in tier.ecr.repositories(f"{BASES}/")
        for each in tier.ecr.images(repository)
        if each.subject is None
    ]


def rescan_bench(tier: Tier, workbench: Workbench, scanner: Grype) -> Bench:
    """What a rescan needs, as curation may read, sign and believe; what lies under a digest is kept for the next."""
    registry = replace(tier.http, memory=workbench.kept_content)
    evidence = replace(tier.evidence(workbench), referrers=registry, wide=1)
    return Bench(
        generator=tier.syft(workbench),
        scanner=scanner,
        results=workbench.kept_results,
        registry=registry,
        evidence=evidence,
        layers=layers_of(registry),
        bases=base_images(tier),
        ruled=ruled_bases(_bases(tier), evidence),
        production=frozenset(place.name for place in workbench.environments() if place.production),
        now=now,
    )
