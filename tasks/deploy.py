"""Task `deploy`: run an admitted image in an environment and record the deployment as evidence."""

from __future__ import annotations

from prefect import task

from blocks import ContainerHost, Tier, Workbench
from blocks.deploy_ports import deploy_ports
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread, invocation
from supply_chain.execution.deploy import Deployment
from supply_chain.execution.environment import Environment
from supply_chain.execution.service import PROXY, take_into_service
from supply_chain.execution.supply import remove_unneeded
from supply_chain.model.image import ImageRef
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted


@task(name="deploy", task_run_name="deploy", **RETRYING)
async def deploy_step(
    admitted: Admitted[DeployFacts],
    environment: Environment,
    tier: Tier,
    host: ContainerHost,
    workbench: Workbench,
    force: bool,
) -> Deployment:
    """Run the image by digest with the hardened profile; the new container is ready before the old one stops."""
    deployment = await in_thread(
        lambda: take_into_service(admitted, environment, deploy_ports(tier, host, workbench), invocation(), force=force)
    )
    emit(
        "deployment.started" if deployment.changed else "deployment.confirmed",
        admitted.facts.ref,
        admitted.facts.source,
        environment=environment.name,
        address=deployment.url,
        gap_seconds=deployment.gap_seconds,
    )
    return deployment


def forget_replaced(ref: ImageRef, tier: Tier, host: ContainerHost) -> None:
    """Remove from the engine the images of earlier deployments that nothing there needs any more."""
    remove_unneeded(host.engine, tier.registry, (ref.repository, PROXY))
