"""deploy: an admitted image runs in an environment; the record of it is evidence."""

from __future__ import annotations

from prefect import task

from blocks import ContainerHost, Tier, Workbench
from blocks.workbench import now
from blocks.workshop import curated_bases
from supply_chain.adapters.command import cancellation
from supply_chain.app import Service
from supply_chain.concurrency import both
from supply_chain.execution.deploy import Deployment, Order
from supply_chain.execution.deploy import deploy as deploy_image
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import record
from supply_chain.execution.supply import DecryptingSupply, PullSupply, supply_for, tidy
from supply_chain.image import CuratedImage, Digest, ImageRef
from supply_chain.policy.gate import Dossier
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.verdict import record as record_verdict
from supply_chain.tier import BASES, TierName, evidence_repository
from tasks.events import emit
from tasks.running import RETRYING, in_thread, invocation

PROXY = f"{BASES}/proxy"


@task(name="deploy", task_run_name="deploy", **RETRYING)
async def deploy(
    admitted: Admitted[CuratedImage],
    dossier: Dossier[CuratedImage],
    environment: Environment,
    tier: Tier,
    host: ContainerHost,
    workbench: Workbench,
    fresh: bool,
) -> Deployment:
    """Run by digest with the hardened profile; the new one is ready before the old one stops."""
    deployment = await in_thread(_deploy, admitted, dossier, environment, tier, host, workbench, fresh)
    emit(
        "deployment.started" if deployment.changed else "deployment.confirmed",
        admitted.image.ref,
        admitted.image.source,
        environment=environment.name,
        address=deployment.url,
        gap_seconds=deployment.gap_seconds,
    )
    return deployment


def _deploy(
    admitted: Admitted[CuratedImage],
    dossier: Dossier[CuratedImage],
    environment: Environment,
    tier: Tier,
    host: ContainerHost,
    workbench: Workbench,
    fresh: bool,
) -> Deployment:
    manifest, ref, evidence = dossier.manifest, admitted.image.ref, tier.evidence(workbench)
    assert isinstance(manifest, Service)  # the gate admits services only
    where = ref.moved_to(evidence_repository(TierName.EXECUTION, ref.application))
    tier.ecr.ensure_repository(where.repository, immutable=True, key=None)
    engine = host.engine()
    pulled = PullSupply(engine, tier.registry, tier.ecr.credentials)
    confidential = DecryptingSupply(engine, evidence, tier.kms, tier.skopeo(workbench))

    def proxy() -> Digest:
        pinned = f"{PROXY}@{environment.proxy}" if environment.proxy else PROXY
        _, found = curated_bases(tier, workbench).curated(pinned)
        return pulled.supply(ImageRef(repository=PROXY, digest=found.digest))

    front, _ = both(proxy, lambda: record_verdict(admitted, dossier, where, evidence, now()))
    order = Order(admitted, manifest, environment, front, invocation(), fresh)  # who may not record it starts nothing
    supply = supply_for(manifest.classification, pulled, confidential)
    deployment = deploy_image(engine, order, supply, now=now, wait=cancellation().wait)
    return record(deployment, ref, tier.ecr, evidence, now())


def forget_replaced(ref: ImageRef, tier: Tier, host: ContainerHost) -> None:
    """Remove from the engine the images of earlier deployments that nothing there needs any more."""
    tidy(host.engine, tier.registry, (ref.repository, PROXY))
