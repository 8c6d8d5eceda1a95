"""test: every check of a built image; what they find is for the gate to judge."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from blocks import ContainerHost, Tier, Workbench
from blocks.workshop import checks, dependencies
from supply_chain.app import Base, Service
from supply_chain.development.test import TestedImage
from supply_chain.development.test import test as test_built
from supply_chain.image import BuiltImage, ImageRef
from supply_chain.tier import development_repository
from tasks.events import emit
from tasks.running import RETRYING, in_thread, worth_retrying


@task(name="test", task_run_name="test", tags=["development"], retry_condition_fn=worth_retrying, **RETRYING)
async def test(
    built: BuiltImage, directory: Path, manifest: Service | Base, tier: Tier, host: ContainerHost, workbench: Workbench
) -> TestedImage:
    """Tests, linter, source, secrets, dependencies and readiness probe, side by side."""

    def make() -> TestedImage:
        return test_built(
            built,
            checks(built, directory, manifest, host, workbench),
            lambda: dependencies(directory, manifest, tier, workbench),
        )

    tested = await in_thread(make)
    emit(
        "image.tested",
        ImageRef(repository=development_repository(manifest.name), digest=built.digest),
        built.source,
        checks={check.check.value: check.outcome.value for check in tested.checks},
    )
    return tested


test.__test__ = False  # type: ignore[attr-defined]  # a step, not a test of ours
