"""Task `sign`: sign the image with curation's key and verify the signature from outside."""

from __future__ import annotations

from prefect import task

from blocks import Tier, Workbench
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.curation.sign import sign as sign_image
from supply_chain.model.image import CuratedImage, ScannedImage
from supply_chain.policy.facts import ReleaseFacts
from supply_chain.policy.outcome import Admitted


@task(name="sign", task_run_name="sign", tags=["signer"], **RETRYING)
async def sign(
    scanned: ScannedImage, admitted: Admitted[ReleaseFacts], tier: Tier, workbench: Workbench, force: bool
) -> CuratedImage:
    """Sign with the tier's KMS key; verify with its public key alone."""
    curated = await in_thread(
        lambda: sign_image(scanned, admitted, tier.cosign(workbench), tier.evidence(workbench), now, force=force)
    )
    if curated.proven is None:
        emit("image.signed", curated.ref, curated.source, tag=curated.tag)
    return curated
