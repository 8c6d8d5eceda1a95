"""Tasks of the three gates: read the facts, decide, and record a refusal as evidence."""

from __future__ import annotations

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from orchestration.clock import read_clock
from orchestration.steps import step
from orchestration.verdict_events import emit_verdict
from supply_chain.errors import ImageArchived, ImageNotFound
from supply_chain.execution.environment import Environment
from supply_chain.model.image import ImageRef, ScannedImage, StorageStatus
from supply_chain.policy.facts import DeployFacts, IntakeFacts, ReleaseFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.verdict import decide


@step("intake gate")
def intake_gate_step(ref: ImageRef, ports: CurationPorts) -> tuple[Admitted[IntakeFacts] | Refused, IntakeFacts]:
    """Decide the intake gate from development's evidence, verified with development's public key."""
    status = _read_status(ref, ports)
    facts = ports.intake_facts(ref)
    if status is not StorageStatus.ACTIVE and facts.status.block is None:
        raise ImageArchived(
            f"{ref} is {status.value.lower()} and cannot be copied.\n"
            "If it was unblocked just now, ECR restores it within 20 minutes; then run the step again."
        )
    policy = ports.workbench.policies().intake
    return emit_verdict(decide(facts, policy, ports.repositories, ports.evidence, read_clock()), facts)


@step("release gate")
def release_gate_step(
    image: ScannedImage, ports: CurationPorts
) -> tuple[Admitted[ReleaseFacts] | Refused, ReleaseFacts]:
    """Decide the release gate: compare the findings with the limits of the owner; refuse known exploited ones."""
    facts = ports.release_facts(image.encrypted.stored.ref)
    policy = ports.workbench.policies().release
    return emit_verdict(decide(facts, policy, ports.repositories, ports.evidence, read_clock()), facts)


@step("deploy gate")
def deploy_gate_step(
    ref: ImageRef, environment: Environment, ports: ExecutionPorts
) -> tuple[Admitted[DeployFacts] | Refused, DeployFacts]:
    """Decide the deploy gate: signature, verdicts and evidence of both earlier tiers, environment and approval."""
    ports.repositories.status(ref)  # raises `ImageNotFound`: an image that is not there is not refused
    facts = ports.deploy_facts(ref, environment)
    policy = ports.workbench.policies().deploy
    return emit_verdict(decide(facts, policy, ports.repositories, ports.evidence, read_clock()), facts)


def _read_status(ref: ImageRef, ports: CurationPorts) -> StorageStatus:
    """Return the storage status of an offered image; a blocked image is archived, but the gate still decides on it.

    Raises `ImageNotFound` if the registry does not have it.
    """
    try:
        return ports.repositories.status(ref)
    except ImageNotFound as error:
        raise ImageNotFound(
            f"The registry has no {ref}.\nOffer it first: `cscm build PATH` prints the digest."
        ) from error
