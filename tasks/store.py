"""Task `store`: copy the admitted candidate to curation's own repository and verify every byte."""

from __future__ import annotations

from blocks.curation_ports import CurationPorts
from orchestration.clock import read_clock
from orchestration.events import emit
from orchestration.steps import step
from supply_chain.curation.store import store
from supply_chain.model.image import StoredImage
from supply_chain.policy.facts import IntakeFacts
from supply_chain.policy.outcome import Admitted


@step("store")
def store_step(admitted: Admitted[IntakeFacts], ports: CurationPorts, force: bool) -> StoredImage:
    """Copy the image by digest, without the engine, and verify the copy."""
    stored = store(
        admitted,
        ports.crane,
        ports.registry,
        ports.repositories,
        ports.evidence,
        storage_key=ports.tier.key("storage_key"),
        now=read_clock,
        force=force,
    )
    if stored.proven is None:
        emit("image.stored", stored.ref, stored.source, tag=stored.tag, bytes=stored.size)
    return stored
