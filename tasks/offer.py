"""Task `offer`: push the image and its signed evidence to development's repository."""

from __future__ import annotations

from blocks.development_ports import DevelopmentPorts
from orchestration.clock import read_clock
from orchestration.events import emit
from orchestration.steps import step
from supply_chain.development.offer import offer
from supply_chain.development.test import TestedImage
from supply_chain.model.declaration import Base, Service
from supply_chain.model.image import Candidate


@step("offer")
def offer_step(tested: TestedImage, declaration: Service | Base, ports: DevelopmentPorts) -> Candidate:
    """Push the image, and attach the evidence that the development key signs."""
    candidate = offer(tested, declaration, ports.buildx, ports.repositories, ports.evidence, read_clock)
    if candidate.proven is None:
        emit("image.offered", candidate.ref, candidate.source)
    return candidate
