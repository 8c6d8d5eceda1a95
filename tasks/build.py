"""Task `build`: build an image from a snapshot of the declared context."""

from __future__ import annotations

from blocks.development_ports import DevelopmentPorts
from orchestration.events import emit
from orchestration.steps import make_run_mark, step
from supply_chain.development.build import build
from supply_chain.development.snapshot import Snapshot
from supply_chain.development.test import EarlyChecks
from supply_chain.model.image import BuiltImage, ImageRef
from supply_chain.model.tier import name_development_repository


@step("build", retry=False)
def build_step(snapshot: Snapshot, checks: EarlyChecks, ports: DevelopmentPorts, force: bool) -> BuiltImage:
    """Build the image with BuildKit, and check its source and content meanwhile; a failed build is not retried."""
    built = build(snapshot, ports.build_ports(snapshot.origin, checks), make_run_mark(), force=force)
    if built.proven is None:
        repository = name_development_repository(built.application)
        emit("image.built", ImageRef(repository=repository, digest=built.digest), built.source)
    return built
