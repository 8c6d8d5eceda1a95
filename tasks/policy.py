"""Tasks that explain what the policies of a gate say about an image; they record nothing."""

from __future__ import annotations

from collections.abc import Mapping

from blocks import Inventory, Workbench
from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from orchestration.clock import read_clock
from orchestration.steps import step
from supply_chain.execution.environment import Environment
from supply_chain.fleet.preview import PolicyPreview
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import OFFERED, Gate
from supply_chain.policy.explanation import GateExplanation, explain


@step("explain intake or release")
def explain_curation_step(ref: ImageRef, ports: CurationPorts) -> GateExplanation:
    """Explain the intake gate for an offered image, or the release gate for a curated one."""
    policies = ports.workbench.policies()
    if ref.repository.startswith(OFFERED):
        rules = explain(ports.intake_facts(ref), policies.intake, read_clock())
        return GateExplanation(image=ref, gate=Gate.INTAKE, rules=rules)
    rules = explain(ports.release_facts(ref), policies.release, read_clock())
    return GateExplanation(image=ref, gate=Gate.RELEASE, rules=rules)


@step("explain deploy")
def explain_deploy_step(ref: ImageRef, environment: Environment, ports: ExecutionPorts) -> GateExplanation:
    """Explain the deploy gate for a curated image in an environment."""
    rules = explain(ports.deploy_facts(ref, environment), ports.workbench.policies().deploy, read_clock())
    return GateExplanation(image=ref, gate=Gate.DEPLOY, environment=environment.name, rules=rules)


@step("preview policies")
def preview_policies_step(documents: Mapping[str, str], workbench: Workbench, inventory: Inventory) -> PolicyPreview:
    """Compare what the project's documents and proposed ones, as file name → text, say about the stored facts."""
    return workbench.preview(documents, inventory)
