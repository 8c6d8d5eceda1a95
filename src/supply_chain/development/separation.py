"""Separation of the builds of different applications: their cache keys, and their limits on the host."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from supply_chain.model.image import Model, Source

PROCESSES, DISK, RESERVE = 2048, 10 * 1024**3, 2 * 1024**3
"""Limits of builds on a host without settings of its own; disk and reserve in bytes."""
LEAST_CPUS = 0.01
"""Smallest part of a processor that the kernel takes as a limit: it would set none of the limits for a smaller one."""


class BuildLimits(Model):
    """Limits on all steps of one build together, and the disk space that they must leave free."""

    memory: int = Field(ge=64 * 1024**2, description="bytes, swap included")
    processes: int = Field(ge=16, description="processes and threads")
    cpus: float = Field(ge=LEAST_CPUS, allow_inf_nan=False, description="processors")
    disk: int = Field(
        ge=64 * 1024**2, description="bytes that running steps may have written, and by which free space may fall"
    )
    reserve: int = Field(ge=0, description="bytes that have to stay free where the engine keeps its images")


@dataclass(frozen=True)
class Room:
    """Limits on the containers of a check on the host that builds."""

    limits: BuildLimits
    """A run's check containers together have no more memory than a build. No file is larger than a build's `disk`."""
    check_limits: Callable[[], str]
    """Returns a phrase that names a limit of the host's disk broken since the first call, or an empty string."""


def compute_cache_key(owner: str, origin: Path, source: Source, application: str) -> str:
    """Return the key of an application's caches: 32 hexadecimal digits.

    `owner` is the supply chain on that engine; `origin` is the real path of the directory that was copied. No
    declaration and no Dockerfile can choose either of them. The configuration of a Git clone can choose the repository,
    but not where the clone is.
    """
    parts = [owner, str(origin), source.repository, source.path, application]
    return _digest(parts)


def run_key(key: str, run: str) -> str:
    """Return the key of caches that only this run uses."""
    return _digest([key, run])


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
