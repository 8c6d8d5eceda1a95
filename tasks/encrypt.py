"""Task `encrypt`: verify encryption at rest with the tier's key, and encrypt a copy of a confidential image."""

from __future__ import annotations

from blocks.curation_ports import CurationPorts
from orchestration.clock import read_clock
from orchestration.events import emit
from orchestration.steps import step
from supply_chain.curation.encrypt import encrypt
from supply_chain.model.declaration import Base, Service
from supply_chain.model.image import EncryptedImage, StoredImage


@step("encrypt")
def encrypt_step(stored: StoredImage, declaration: Service | Base, ports: CurationPorts, force: bool) -> EncryptedImage:
    """Verify the repository's key, write the encrypted copy of a confidential image, and attest both."""
    encrypted = encrypt(
        stored,
        declaration,
        ports.tier.kms,
        ports.repositories,
        ports.skopeo,
        ports.evidence,
        storage_key=ports.tier.key("storage_key"),
        content_key=ports.tier.content_key,
        now=read_clock,
        force=force,
    )
    if encrypted.proven is None:
        emit("image.encrypted", stored.ref, stored.source, key=encrypted.key, copy=encrypted.copy_digest)
    return encrypted
