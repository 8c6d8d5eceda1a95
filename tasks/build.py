"""build: the declared context becomes an image with known inputs."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from blocks import ContainerHost, Tier, Workbench
from blocks.workshop import workshop
from supply_chain.adapters.buildx import Buildx
from supply_chain.app import Base, Service
from supply_chain.development.build import build as build_image
from supply_chain.development.build import local_name, test_name
from supply_chain.image import BuiltImage, ImageRef, Source
from supply_chain.tier import development_repository
from tasks.events import emit
from tasks.running import in_thread


@task(name="build", task_run_name="build", tags=["development"], cache_policy=NO_CACHE)
async def build(
    directory: Path,
    manifest: Service | Base,
    source: Source,
    tier: Tier,
    host: ContainerHost,
    workbench: Workbench,
    fresh: bool,
) -> BuiltImage:
    """Build with BuildKit; a build that fails is never tried again by itself."""
    built = await in_thread(
        lambda: build_image(directory, manifest, workshop(tier, host, workbench), source, invocation(), fresh=fresh)
    )
    if built.proven is None:
        emit("image.built", ImageRef(repository=development_repository(manifest.name), digest=built.digest), source)
    return built


def invocation() -> str:
    """What marks everything that this run makes in the engine."""
    return (flow_run.id or "alone")[:8]


def forget(application: str, builder: Buildx) -> None:
    """Remove from the engine what this run built; the registry has what was offered."""
    local = local_name(application, invocation())
    for name in (local, test_name(local)):
        builder.forget(name)
