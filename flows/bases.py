"""Flow `bases`: build and release each internal base image, unless a released one exists."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import flow

from blocks.development_ports import DevelopmentPorts
from flows.chain import chain
from orchestration.run_states import complete_refused
from orchestration.steps import run_in_thread, wait_for_all
from supply_chain.development.bases import CuratedBases
from supply_chain.errors import BaseMissing
from supply_chain.model.image import ImageRef, ReleasedImage
from supply_chain.model.tier import BASES
from supply_chain.policy.outcome import Refused

AT_ONCE = 2
"""Bases that are built at the same time: most of the time, one waits for packages or is unpacked by one processor."""


@flow(name="bases", flow_run_name="bases")
async def bases(names: list[str], project: str, force: bool = False) -> list[ImageRef] | Refused:
    """Take the internal base images through the chain, and return the released images.

    Those that are built on other bases follow, one after the other, in the given order.

    Args:
        names: Names of directories in bases/, such as python.
        project: The project's directory.
        force: Build a base again even if a released image of it exists.
    """
    ports = await DevelopmentPorts.aload()
    own = [name for name in names if f"{BASES}/{name}" not in ports.workbench.bases]  # others are third parties'
    slots = asyncio.Semaphore(AT_ONCE)

    async def release(name: str) -> ImageRef | Refused:
        async with slots:
            ref = None if force else await run_in_thread(_find_released, ports.bases, name)
            return ref or await _build(Path(project) / "bases" / name, force)

    first = [name for name in own if not _is_built_on_others(Path(project) / "bases" / name)]
    released = dict[str, ImageRef]()
    for group in (first, *([name] for name in own if name not in first)):
        for name, result in zip(group, await wait_for_all(*map(release, group)), strict=True):
            if isinstance(result, Refused):
                return complete_refused(result)
            released[name] = result
    return [released[name] for name in own]


async def _build(directory: Path, force: bool) -> ImageRef | Refused:
    result = await chain(path=str(directory), force=force)
    if isinstance(result, Refused):
        return result
    assert isinstance(result, ReleasedImage)  # a base is not deployed
    return result.ref


def _is_built_on_others(directory: Path) -> bool:
    """Return whether the Dockerfile mentions a base; if that cannot be read, the chain says why."""
    try:
        return f"{BASES}/".encode() in (directory / "Dockerfile").read_bytes()
    except OSError:
        return True


def _find_released(catalog: CuratedBases, name: str) -> ImageRef | None:
    """Return the current released image with this name, or None."""
    try:
        _, material = catalog.find_released(f"{BASES}/{name}")
    except BaseMissing:
        return None
    return ImageRef(repository=f"{BASES}/{name}", digest=material.digest)
