"""deploy: an admitted image runs in an environment; the record of it is evidence."""

from __future__ import annotations

from prefect import task

from blocks import ContainerHost, Tier, Workbench
from blocks.workbench import now
from blocks.workshop import curated_bases
from supply_chain.adapters.command import cancellation
from supply_chain.app import Service
from supply_chain.execution.deploy import Deployment, Order
from supply_chain.execution.deploy import deploy as deploy_image
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import record
from supply_chain.execution.supply import DecryptingSupply, PullSupply, supply_for, tidy
from supply_chain.image import CuratedImage, ImageRef
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
    record_verdict(admitted, dossier, where, evidence, now())  # first: who may not write it down starts nothing
    engine = host.engine()
    pulled = PullSupply(engine, tier.registry, tier.ecr.credentials)
    confidential = DecryptingSupply(engine, evidence, tier.kms, tier.skopeo(workbench))
    pinned = f"{PROXY}@{environment.proxy}" if environment.proxy else PROXY
    _, proxy = curated_bases(tier, workbench).curated(pinned)
    pulled.supply(ImageRef(repository=PROXY, digest=proxy.digest))
    order = Order(admitted, manifest, environment, proxy.digest, invocation(), fresh)
    supply = supply_for(manifest.classification, pulled, confidential)
    deployment = deploy_image(engine, order, supply, now=now, wait=cancellation().wait)
    deployment = record(deployment, ref, tier.ecr, evidence, now())
    tidy(engine, [(pulled, ref.repository), (confidential, ref.repository), (pulled, PROXY)])
    return deployment
