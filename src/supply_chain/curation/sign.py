"""The step that signs an admitted image with curation's key and verifies the signature as anybody else would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from supply_chain.errors import SignatureFailed
from supply_chain.evidence.reading import proof
from supply_chain.evidence.statement import SIGNATURE
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import CuratedImage, ImageRef, ScannedImage
from supply_chain.model.tier import TierName
from supply_chain.policy.gate import Dossier
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.verdict import record


class ImageSigner(Protocol):
    """Signs images in the registry."""

    def sign_image(self, ref: ImageRef) -> None:
        """Sign an image; the signature is attached to it."""

    def verify_image(self, ref: ImageRef, public_key: str) -> None:
        """Raise `SignatureFailed` unless the image is signed as `sign_image` does it."""


def _is_signed(signer: ImageSigner, ref: ImageRef, key: str) -> bool:
    try:
        signer.verify_image(ref, key)
    except SignatureFailed:
        return False
    return True


def sign(
    admitted: Admitted[ScannedImage],
    dossier: Dossier[ScannedImage],
    signer: ImageSigner,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
    *,
    force: bool = False,
) -> CuratedImage:
    """Sign an image with the tier's key, verify it with the public key alone, and record the verdict.

    An image with a signature that verifies is not signed again unless `force` is true.
    """
    encrypted = admitted.image.encrypted
    ref, key = encrypted.stored.ref, evidence.trusted[TierName.CURATION]
    record(admitted, dossier, evidence, now())
    signatures = [e for e in dossier.evidence if e.predicate_type == SIGNATURE and e.signer == TierName.CURATION]
    proven = proof(signatures[-1:]) if not force and signatures and _is_signed(signer, ref, key) else None
    if proven is None:
        signer.sign_image(ref)
        signer.verify_image(ref, key)
    assert dossier.manifest is not None  # the release gate admits no image without a declaration
    return CuratedImage(
        ref=ref,
        tag=encrypted.stored.tag,
        source=encrypted.stored.source,
        environments=dossier.manifest.environments,
        proven=proven,
    )
