"""Task `build`: build an image from a snapshot of the declared context."""

from __future__ import annotations

from collections.abc import Iterable

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks import ContainerHost, Tier, Workbench
from blocks.build_ports import build_ports
from orchestration.events import emit
from orchestration.steps import in_thread, invocation
from supply_chain.development.build import build, local_name, test_name
from supply_chain.development.snapshot import Snapshot
from supply_chain.development.traces import clear, forget_image
from supply_chain.model.image import BuiltImage, ImageRef
from supply_chain.model.tier import development_repository


@task(name="build", task_run_name="build", cache_policy=NO_CACHE)
async def build_step(
    snapshot: Snapshot,
    tier: Tier,
    host: ContainerHost,
    workbench: Workbench,
    force: bool,
) -> BuiltImage:
    """Build the image with BuildKit; a failed build is not retried automatically."""
    built = await in_thread(
        lambda: build(snapshot, build_ports(tier, host, workbench, snapshot.origin), invocation(), force=force)
    )
    if built.proven is None:
        repository = development_repository(built.application)
        emit("image.built", ImageRef(repository=repository, digest=built.digest), built.source)
    return built


def forget_tests(built: BuiltImage, host: ContainerHost) -> None:
    """Remove the image in which the tests ran, which takes the engine a while; nothing uses it again."""
    forget_image(host.engine(), test_name(local_name(built.application, built.invocation)))


def forget(application: str, runs: Iterable[str], tier: Tier, host: ContainerHost) -> None:
    """Remove from the engine what these runs made there; what was offered is in the registry."""
    for run in runs:
        clear(host.engine(), application, run, f"{tier.registry}/{development_repository(application)}")
