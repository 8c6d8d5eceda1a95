"""What keeps one application's build apart from another's: its cache key, and what it may use of the host."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from supply_chain.model.image import Frozen, Source


class BuildLimits(Frozen):
    """What all steps of one build may use together, and what they have to leave on the disk."""

    memory: int = Field(ge=64 * 1024**2, description="bytes, swap included")
    processes: int = Field(ge=16, description="processes and threads")
    cpus: float = Field(gt=0, description="processors")
    disk: int = Field(
        ge=64 * 1024**2, description="bytes that running steps may have written, and by which free space may fall"
    )
    reserve: int = Field(ge=0, description="bytes that have to stay free where the engine keeps its images")


@dataclass(frozen=True)
class Room:
    """What the containers of a check may use of the host that builds."""

    limits: BuildLimits
    """The containers of a run's checks have together no more memory than a build. No file is larger than its disk."""
    look: Callable[[], str]
    """Returns which limit of the host's disk is broken since its first call, in a sentence's half, or an empty text."""


def cache_key(owner: str, origin: Path, source: Source, application: str) -> str:
    """Return the key of an application's caches: 32 hexadecimal digits.

    `owner` is the supply chain on that engine, `origin` the directory that was copied, by its real path. No declaration
    and no Dockerfile can choose one of them; a clone's configuration can choose the repository, but not where it lies.
    """
    parts = [owner, str(origin), source.repository, source.path, application]
    return _digest(parts)


def run_key(key: str, run: str) -> str:
    """Return the key of caches that this run alone uses."""
    return _digest([key, run])


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
