"""Flow `bases`: build and release each internal base image, unless a released one exists."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from blocks.development_ports import DevelopmentPorts
from flows.chain import chain
from orchestration.run_states import complete_refused
from orchestration.steps import in_thread
from supply_chain.development.bases import CuratedBases
from supply_chain.errors import BaseMissing
from supply_chain.model.image import CuratedImage, ImageRef
from supply_chain.model.tier import BASES
from supply_chain.policy.outcome import Refused


@flow(name="bases", flow_run_name="bases")
async def bases(names: list[str], project: str, force: bool = False) -> list[ImageRef] | Refused:
    """Take the internal base images through the chain, and return the released images.

    Args:
        names: Names of directories in bases/, such as python.
        project: The project's directory.
        force: Build a base again even if a released image of it exists.
    """
    ports = await DevelopmentPorts.aload()
    images: list[ImageRef] = []
    for name in names:
        if f"{BASES}/{name}" in ports.workbench.bases:
            continue  # the profile names an image of a third party instead
        ref = None if force else await in_thread(_find_released, ports.bases, name)
        if ref is None:
            result = await chain(path=str(Path(project) / "bases" / name), force=force)
            if isinstance(result, Refused):
                return complete_refused(result)
            assert isinstance(result, CuratedImage)  # a base is not deployed
            ref = result.ref
        images.append(ref)
    return images


def _find_released(catalog: CuratedBases, name: str) -> ImageRef | None:
    """Return the current released image with this name, or None."""
    try:
        _, material = catalog.curated(f"{BASES}/{name}")
    except BaseMissing:
        return None
    return ImageRef(repository=f"{BASES}/{name}", digest=material.digest)
