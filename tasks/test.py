"""Task `test`: run every check of a built image; the gate decides on the results."""

from __future__ import annotations

from blocks.development_ports import DevelopmentPorts
from orchestration.clock import read_clock
from orchestration.events import emit
from orchestration.steps import step
from supply_chain.development.snapshot import Snapshot
from supply_chain.development.test import EarlyChecks, TestedImage, test
from supply_chain.model.image import BuiltImage, ImageRef
from supply_chain.model.tier import TierName, name_development_repository


@step("test")
def test_step(built: BuiltImage, snapshot: Snapshot, early: EarlyChecks, ports: DevelopmentPorts) -> TestedImage:
    """Run tests, linter, source, secrets and dependency checks and the readiness probe in parallel.

    The checks of source and content were made during the build, if it was built now.
    """
    ref = ImageRef(repository=name_development_repository(built.application), digest=built.digest)
    before = ports.evidence.read_verified(ref, TierName.DEVELOPMENT) if built.proven else ()
    checks = (*ports.plan_checks(built, snapshot, early), *early.source)
    tested = test(built, checks, early.dependencies, before, read_clock)
    if tested.proven is None:
        results = {check.check.value: check.outcome.value for check in tested.checks}
        emit("image.tested", ref, built.source, checks=results)
    return tested


test_step.__test__ = False  # type: ignore[attr-defined]  # this is a step, not one of our tests
