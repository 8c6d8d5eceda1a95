"""Adapters put together for looking again at what curation admitted."""

from __future__ import annotations

from blocks.tier import Tier
from blocks.workbench import Workbench, now
from supply_chain.adapters.grype import Grype
from supply_chain.fleet.rescan import Bench
from supply_chain.image import Digest, ImageRef, blobs_of
from supply_chain.tier import BASES


def rescan_bench(tier: Tier, workbench: Workbench, scanner: Grype) -> Bench:
    """What a rescan needs, as curation may read, sign and believe."""

    def layers(ref: ImageRef) -> tuple[Digest, ...]:
        return tuple(blob.digest for blob in blobs_of(tier.http.manifest(ref), ref)[1:])

    return Bench(
        inventory=tier.syft(workbench),
        scanner=scanner,
        results=workbench.kept_results,
        registry=tier.http,
        evidence=tier.evidence(workbench),
        layers=layers,
        bases=[ref for repository in tier.ecr.repositories(f"{BASES}/") for ref in tier.ecr.newest_first(repository)],
        now=now,
    )
