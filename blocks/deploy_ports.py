"""Build the dependencies of a deployment."""

from __future__ import annotations

from blocks.build_ports import curated_bases
from blocks.curation_ports import base_images
from blocks.host import ContainerHost
from blocks.tier import Tier
from blocks.workbench import Workbench
from orchestration.clock import now
from supply_chain.adapters.process.command import cancellation, defer_cancellation
from supply_chain.execution.service import DeployPorts
from supply_chain.execution.supply import DecryptingSupply, PullSupply


def deploy_ports(tier: Tier, host: ContainerHost, workbench: Workbench) -> DeployPorts:
    """Return the dependencies of `deploy`."""
    engine, evidence = host.engine(), tier.evidence(workbench)
    return DeployPorts(
        engine=engine,
        plain=PullSupply(engine, tier.registry, tier.ecr.credentials),
        confidential=DecryptingSupply(engine, evidence, tier.kms, tier.skopeo(workbench)),
        released=lambda name: curated_bases(tier, workbench).curated(name)[1].digest,
        bases=lambda: base_images(tier),
        repositories=tier.ecr,
        evidence=evidence,
        now=now,
        wait=cancellation().wait,
        to_its_end=defer_cancellation,
    )
