"""Task `store`: copy the admitted candidate to curation's own repository and verify every byte."""

from __future__ import annotations

from prefect import task

from blocks import Tier, Workbench
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.curation.store import store as store_image
from supply_chain.model.image import StoredImage
from supply_chain.policy.facts import IntakeFacts
from supply_chain.policy.outcome import Admitted


@task(name="store", task_run_name="store", **RETRYING)
async def store(admitted: Admitted[IntakeFacts], tier: Tier, workbench: Workbench, force: bool) -> StoredImage:
    """Copy the image by digest, without the engine, and verify the copy."""
    stored = await in_thread(
        lambda: store_image(
            admitted,
            tier.crane(workbench),
            tier.http,
            tier.ecr,
            tier.evidence(workbench),
            storage_key=tier.key("storage_key"),
            now=now,
            force=force,
        )
    )
    if stored.proven is None:
        emit("image.stored", stored.ref, stored.source, tag=stored.tag, bytes=stored.size)
    return stored
