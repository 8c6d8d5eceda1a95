"""The step that signs an admitted image with curation's key and verifies the signature as anybody else would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from supply_chain.concurrency import run_both
from supply_chain.errors import SignatureFailed
from supply_chain.evidence.reading import make_proof
from supply_chain.evidence.statement import SIGNATURE
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import ImageRef, ReleasedImage, ScannedImage
from supply_chain.model.tier import TierName
from supply_chain.policy.facts import ReleaseFacts
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
    scanned: ScannedImage,
    admitted: Admitted[ReleaseFacts],
    signer: ImageSigner,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
    *,
    force: bool = False,
) -> ReleasedImage:
    """Sign a scanned image that the release gate admitted, verify it with the public key alone, and record the verdict.

    An image with a signature that verifies is not signed again unless `force` is true.
    """
    stored, facts = scanned.encrypted.stored, admitted.facts
    assert stored.ref == facts.ref, "the gate admitted another image"
    ref, key = stored.ref, evidence.trusted[TierName.CURATION]
    signatures = [e for e in facts.evidence if e.predicate_type == SIGNATURE and e.signer == TierName.CURATION]
    _, is_signed = run_both(
        lambda: record(admitted, facts, evidence, now()),
        lambda: not force and bool(signatures) and _is_signed(signer, ref, key),
    )
    proven = make_proof(signatures[-1:]) if is_signed else None
    if not is_signed:
        signer.sign_image(ref)
        signer.verify_image(ref, key)
    return ReleasedImage(
        ref=ref,
        tag=stored.tag,
        source=stored.source,
        environments=admitted.provenance.declaration.environments,
        proven=proven,
    )
