"""Task `deploy`: run an admitted image in an environment and record the deployment as evidence."""

from __future__ import annotations

from blocks.execution_ports import ExecutionPorts
from orchestration.events import emit
from orchestration.steps import make_run_mark, step
from orchestration.verdict_events import emit_verdict
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.environment import Environment
from supply_chain.execution.service import take_into_service
from supply_chain.execution.target import Target
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted, Refused


@step("deploy")
def deploy_step(
    admitted: Admitted[DeployFacts], environment: Environment, target: Target, ports: ExecutionPorts, force: bool
) -> Deployment | Refused:
    """Run the image by digest with the hardened profile; the new container is ready before the previous one stops.

    Return the verdict if the deploy gate refuses the image before it serves.
    """
    deployment = take_into_service(admitted, ports.deploy_ports(target), make_run_mark(), force=force)
    if isinstance(deployment, Refused):
        emit_verdict(deployment, admitted.facts)
        return deployment
    emit(
        "deployment.started" if deployment.changed else "deployment.confirmed",
        admitted.facts.ref,
        admitted.facts.source,
        environment=environment.name,
        address=deployment.url,
        gap_seconds=deployment.gap_seconds,
    )
    return deployment
