"""Flow `deploy`: judge an image at the deploy gate, deploy and monitor it. This is the strictest tier."""

from __future__ import annotations

from prefect import flow

from blocks.execution_ports import ExecutionPorts
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.run_names import name_run_by_image
from orchestration.run_report import RunReporter, report_run
from orchestration.run_states import complete_refused
from orchestration.steps import run_alongside, run_in_thread
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.environment import Environment
from supply_chain.execution.observation import Observation
from supply_chain.execution.target import Target
from supply_chain.fleet.find import find
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import CURATED
from supply_chain.policy.outcome import Refused
from supply_chain.text import pluralize
from tasks.deploy import deploy_step
from tasks.gates import deploy_gate_step
from tasks.monitor import monitor_step


@flow(name="deploy", flow_run_name=name_run_by_image)
async def deploy(image: str, environment: str, force: bool = False) -> Deployment | Refused:
    """Judge a curated image at the deploy gate, deploy it, and check that it runs as it should.

    Args:
        image: The image that curation signed: curated/hello@sha256:… or only its digest.
        environment: The environment to deploy to: the name of a document in deployments/environments.
        force: Replace the container even if the same image already runs.
    """
    ports = await ExecutionPorts.aload()
    document = ports.workbench.valid_environment(environment)
    target = await ports.load_target(document)
    ref = await run_in_thread(find, image, CURATED, ports.repositories)
    name = lock_name(LockKind.DEPLOY, document.name, ref.application)
    async with report_run(ref.application) as reporter, run_lock(name):
        return await _deploy(ref, document, target, ports, reporter, force)


async def _deploy(
    ref: ImageRef, environment: Environment, target: Target, ports: ExecutionPorts, reporter: RunReporter, force: bool
) -> Deployment | Refused:
    reporter.add(digest=ref.digest, repository=ref.repository)
    verdict, facts = await reporter.gate("deploy gate", deploy_gate_step(ref, environment, ports))
    if isinstance(verdict, Refused):
        await run_in_thread(target.undo_unrecorded, ref)
        return complete_refused(verdict)
    reporter.add(source=facts.source, report=facts.report, checks=facts.checks)
    deployment = await reporter.step("deploy", deploy_step(verdict, environment, target, ports, force), _how)
    if isinstance(deployment, Refused):
        reporter.add_verdict(deployment)
        return complete_refused(deployment)
    reporter.add(running=(f"in {environment.name} at {deployment.url} as {deployment.name}: {_how(deployment)}",))
    reporter.add_address(environment.name, deployment.url)
    async with run_alongside(target.remove_unneeded, ref):
        await reporter.step("monitor", monitor_step(environment.name, ports, ref.application), _describe_observations)
    return deployment


def _describe_observations(observed: tuple[Observation, ...]) -> str:
    deviations = sum(len(each.deviations) for each in observed)
    return f"{pluralize(len(observed), 'container')} observed, {pluralize(deviations, 'deviation')}"


def _how(deployment: Deployment | Refused) -> str:
    if isinstance(deployment, Refused):
        return "the deploy gate refuses the image now; an earlier deployment, if any, still runs"
    if not deployment.changed:
        return "it runs already and is healthy"
    ready = f"ready after {deployment.ready_seconds:.2f} s"
    if deployment.gap_seconds is None:
        return ready
    how = " while its reverse proxy was replaced" if deployment.reverse_proxy_replaced else ""
    return f"{ready}, longest gap {deployment.gap_seconds:.3f} s, {deployment.failed_requests} failed requests{how}"
