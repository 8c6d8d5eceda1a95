"""Task `sign`: sign the image with curation's key and verify the signature from outside."""

from __future__ import annotations

from blocks.curation_ports import CurationPorts
from orchestration.clock import read_clock
from orchestration.events import emit
from orchestration.steps import step
from supply_chain.curation.sign import sign
from supply_chain.model.image import ReleasedImage, ScannedImage
from supply_chain.policy.facts import ReleaseFacts
from supply_chain.policy.outcome import Admitted


@step("sign", tags=["signer"])
def sign_step(
    scanned: ScannedImage, admitted: Admitted[ReleaseFacts], ports: CurationPorts, force: bool
) -> ReleasedImage:
    """Sign with the tier's KMS key; verify with its public key alone."""
    curated = sign(scanned, admitted, ports.cosign, ports.evidence, read_clock, force=force)
    if curated.proven is None:
        emit("image.signed", curated.ref, curated.source, tag=curated.tag)
    return curated
