"""Task `test`: run every check of a built image; the gate decides on the results."""

from __future__ import annotations

from prefect import task

from blocks import ContainerHost, Tier, Workbench
from blocks.build_ports import checks, dependencies
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.development.snapshot import Snapshot
from supply_chain.development.test import TestedImage
from supply_chain.development.test import test as test_built
from supply_chain.model.image import BuiltImage, ImageRef
from supply_chain.model.tier import TierName, development_repository


@task(name="test", task_run_name="test", **RETRYING)
async def test(
    built: BuiltImage, snapshot: Snapshot, tier: Tier, host: ContainerHost, workbench: Workbench
) -> TestedImage:
    """Run tests, linter, source, secrets and dependency checks and the readiness probe in parallel."""
    ref = ImageRef(repository=development_repository(built.application), digest=built.digest)

    def make() -> TestedImage:
        before = tier.evidence(workbench).verified(ref, TierName.DEVELOPMENT) if built.proven else ()
        planned = checks(built, snapshot, host, workbench)
        return test_built(built, planned, dependencies(snapshot, tier, workbench), before, now)

    tested = await in_thread(make)
    if tested.proven is None:
        results = {check.check.value: check.outcome.value for check in tested.checks}
        emit("image.tested", ref, built.source, checks=results)
    return tested


test.__test__ = False  # type: ignore[attr-defined]  # this is a step, not one of our tests
