"""Tasks of the three gates: read the facts, decide, and record a refusal as evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import task

from blocks import Tier, Workbench
from blocks.curation_ports import base_images, layers_of
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.errors import ImageArchived, ImageNotFound
from supply_chain.execution.environment import Environment
from supply_chain.model.image import ImageRef, ScannedImage, StorageStatus
from supply_chain.model.tier import curated_repository
from supply_chain.policy.facts import DeployFacts, IntakeFacts, ReleaseFacts
from supply_chain.policy.gate import F, Policy
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.policies import DEPLOY, INTAKE, RELEASE
from supply_chain.policy.reading import read_deploy_facts, read_intake_facts, read_release_facts
from supply_chain.policy.rules import IMAGE_BLOCKED
from supply_chain.policy.verdict import decide


@task(
    name="intake gate",
    task_run_name="intake gate",
    **RETRYING,
)
async def admit_to_curation(
    ref: ImageRef, tier: Tier, workbench: Workbench
) -> tuple[Admitted[IntakeFacts] | Refused, IntakeFacts]:
    """Decide the intake gate from development's evidence, verified with development's public key."""

    def read() -> IntakeFacts:
        status = _offered(ref, tier)
        registered = workbench.registered(ref.application)
        before = curated_before(ref.application, tier)
        facts = read_intake_facts(ref, tier.evidence(workbench), before, registered)
        if status is not StorageStatus.ACTIVE and facts.status.block is None:
            raise ImageArchived(
                f"{ref} is {status.value.lower()} and cannot be copied.\n"
                "If it was unblocked just now, ECR restores it within 20 minutes; then run the step again."
            )
        return facts

    return await in_thread(lambda: _decide(read, INTAKE, tier, workbench))


@task(
    name="release gate",
    task_run_name="release gate",
    **RETRYING,
)
async def admit_to_signature(
    image: ScannedImage, tier: Tier, workbench: Workbench
) -> tuple[Admitted[ReleaseFacts] | Refused, ReleaseFacts]:
    """Decide the release gate: compare the findings with the limits of the owner; refuse known exploited ones."""

    def read() -> ReleaseFacts:
        evidence = tier.evidence(workbench)
        layers = layers_of(tier.http, evidence, workbench)
        return read_release_facts(image.encrypted.stored.ref, evidence, layers, base_images(tier))

    return await in_thread(lambda: _decide(read, RELEASE, tier, workbench))


@task(
    name="deploy gate",
    task_run_name="deploy gate",
    **RETRYING,
)
async def admit_to_execution(
    ref: ImageRef, environment: Environment, tier: Tier, workbench: Workbench
) -> tuple[Admitted[DeployFacts] | Refused, DeployFacts]:
    """Decide the deploy gate: signature, verdicts and evidence of both earlier tiers, environment and approval."""

    def read() -> DeployFacts:
        tier.ecr.status(ref)  # raises `ImageNotFound`: an image that is not there is not refused
        requirements, bases = environment.requirements(workbench.environment), base_images(tier)
        return read_deploy_facts(ref, requirements, tier.evidence(workbench), now(), bases=bases)

    return await in_thread(lambda: _decide(read, DEPLOY, tier, workbench))


def curated_before(application: str, tier: Tier) -> list[ImageRef]:
    """Return the images with an application's name, newest first; archived ones also hold the name."""
    repository = curated_repository(application)
    images = tier.ecr.images(repository)
    return [ImageRef(repository=repository, digest=each.digest) for each in images if each.tags]


def _offered(ref: ImageRef, tier: Tier) -> StorageStatus:
    """Return the storage status of an offered image; a blocked image is archived, but the gate still decides on it.

    Raises `ImageNotFound` if the registry does not have it.
    """
    try:
        return tier.ecr.status(ref)
    except ImageNotFound as error:
        raise ImageNotFound(
            f"The registry has no {ref}.\nOffer it first: `cscm build PATH` prints the digest."
        ) from error


def _decide(
    read: Callable[[], F], policy: Policy[F], tier: Tier, workbench: Workbench
) -> tuple[Admitted[F] | Refused, F]:
    facts, gate = read(), policy.gate.value
    verdict = decide(facts, policy, tier.ecr, tier.evidence(workbench), now())
    if isinstance(verdict, Refused):
        reasons = [reason.model_dump() for reason in verdict.reasons][:50]
        blocked: dict[str, Any] = {"blocked": "yes"} if IMAGE_BLOCKED in {r.code for r in verdict.reasons} else {}
        emit("image.refused", facts.ref, facts.source, gate=gate, reasons=reasons, **blocked)
    else:
        emit("image.admitted", facts.ref, facts.source, gate=gate, notes=list(verdict.notes))
    return verdict, facts
