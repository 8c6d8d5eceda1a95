"""Task `offer`: push the image and its signed evidence to development's repository."""

from __future__ import annotations

from prefect import task

from blocks import ContainerHost, Tier, Workbench
from blocks.build_ports import buildx
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.development.offer import offer as offer_image
from supply_chain.development.test import TestedImage
from supply_chain.model.image import Candidate
from supply_chain.model.manifest import Base, Service


@task(name="offer", task_run_name="offer", **RETRYING)
async def offer(
    tested: TestedImage, manifest: Service | Base, tier: Tier, host: ContainerHost, workbench: Workbench
) -> Candidate:
    """Push the image, and attach the evidence that the development key signs."""
    candidate = await in_thread(
        lambda: offer_image(tested, manifest, buildx(tier, host, workbench), tier.ecr, tier.evidence(workbench), now)
    )
    if candidate.proven is None:
        emit("image.offered", candidate.ref, candidate.source)
    return candidate
