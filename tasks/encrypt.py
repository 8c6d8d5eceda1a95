"""Task `encrypt`: verify encryption at rest with the tier's key, and encrypt a copy of a confidential image."""

from __future__ import annotations

from prefect import task

from blocks import Tier, Workbench
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.curation.encrypt import encrypt as encrypt_image
from supply_chain.model.image import EncryptedImage, StoredImage
from supply_chain.model.manifest import Base, Service


@task(name="encrypt", task_run_name="encrypt", **RETRYING)
async def encrypt(
    stored: StoredImage, manifest: Service | Base, tier: Tier, workbench: Workbench, force: bool
) -> EncryptedImage:
    """Verify the repository's key, write the encrypted copy of a confidential image, and attest both."""
    encrypted = await in_thread(
        lambda: encrypt_image(
            stored,
            manifest,
            tier.kms,
            tier.ecr,
            tier.skopeo(workbench),
            tier.evidence(workbench),
            storage_key=tier.key("storage_key"),
            content_key=tier.content_key,
            now=now,
            force=force,
        )
    )
    if encrypted.proven is None:
        emit("image.encrypted", stored.ref, stored.source, key=encrypted.key, copy=encrypted.copy_digest)
    return encrypted
