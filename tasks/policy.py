"""Tasks that explain what the policies of a gate say about an image; they record nothing."""

from __future__ import annotations

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from orchestration.clock import now
from orchestration.steps import step
from supply_chain.execution.environment import Environment
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import OFFERED, Gate
from supply_chain.policy.explanation import GateExplanation, explain
from supply_chain.policy.reading import read_deploy_facts, read_intake_facts, read_release_facts


@step("explain intake or release")
def explain_curation_step(ref: ImageRef, ports: CurationPorts) -> GateExplanation:
    """Explain the intake gate for an offered image, or the release gate for a curated one."""
    policies = ports.workbench.policies()
    if ref.repository.startswith(OFFERED):
        registered, before = ports.workbench.registered(ref.application), ports.list_curated_images(ref.application)
        offered = read_intake_facts(ref, ports.evidence, before, registered)
        return GateExplanation(image=ref, gate=Gate.INTAKE, rules=explain(offered, policies.intake, now()))
    facts = read_release_facts(ref, ports.evidence, ports.layers(), ports.list_base_images())
    return GateExplanation(image=ref, gate=Gate.RELEASE, rules=explain(facts, policies.release, now()))


@step("explain deploy")
def explain_deploy_step(ref: ImageRef, environment: Environment, ports: ExecutionPorts) -> GateExplanation:
    """Explain the deploy gate for a curated image in an environment."""
    requirements = environment.requirements(ports.workbench.environment)
    facts = read_deploy_facts(ref, requirements, ports.evidence, bases=ports.list_base_images())
    rules = explain(facts, ports.workbench.policies().deploy, now())
    return GateExplanation(image=ref, gate=Gate.DEPLOY, environment=environment.name, rules=rules)
