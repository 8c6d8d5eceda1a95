"""Flows `judge-release`, `renew` and `withdraw`: keep the published verdicts true between two promotions."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from blocks.ports_by_tier import PORTS_BY_TIER
from orchestration.run_names import name_run_by_image
from orchestration.run_states import complete_as, complete_refused
from orchestration.steps import wait_for_all
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import name_curated_repository
from supply_chain.policy.facts import ReleaseFacts
from supply_chain.policy.outcome import Admitted, Refused
from tasks.verdicts import (
    Renewals,
    follow_verdicts_step,
    judge_intake_step,
    judge_release_step,
    renew_step,
    withdraw_step,
)


@flow(name="judge-release", flow_run_name=name_run_by_image)
async def judge_release(image: str) -> Admitted[ReleaseFacts] | Refused | None:
    """Judge a released image again after it was blocked or unblocked, and publish a changed verdict.

    Also judge the image again at the intake gate. Return the verdict of the release gate.

    Args:
        image: The image that the event names, such as curated/hello@sha256:…
    """
    ref, ports = ImageRef.parse(image), await CurationPorts.aload()
    curated = ref.with_repository(name_curated_repository(ref.application))
    verdict, _ = await wait_for_all(judge_release_step(curated, ports), judge_intake_step(curated, ports))
    return complete_refused(verdict) if isinstance(verdict, Refused) else verdict


@flow(name="renew", flow_run_name="renew")
async def renew() -> Renewals:
    """Judge deployments again whose published admission ends within a day, or all if something else decides now.

    Clusters then admit exactly what is published. If a deployment cannot be judged, or a cluster does not follow, the
    run ends as Unreadable, after all others.
    """
    ports = await ExecutionPorts.aload()
    renewals = await renew_step(ports)
    left = await follow_verdicts_step(ports)
    renewals = renewals.model_copy(update={"unknown": (*renewals.unknown, *left)})
    return complete_as("Unreadable", "; ".join(renewals.unknown), renewals) if renewals.unknown else renewals


@flow(name="withdraw", flow_run_name="withdraw {tier}")
async def withdraw(tier: Literal["curation", "execution"]) -> tuple[ImageRef, ...]:
    """Withdraw the published verdicts about images that the registry no longer has; without one, nobody admits them.

    If a cluster does not follow, the run ends as Unreadable.

    Args:
        tier: The tier whose gates published them. The run uses only its identity.
    """
    ports = await PORTS_BY_TIER[tier].aload()
    withdrawn = await withdraw_step(ports)
    left = await follow_verdicts_step(ports) if withdrawn and isinstance(ports, ExecutionPorts) else ()
    return complete_as("Unreadable", "; ".join(left), withdrawn) if left else withdrawn
