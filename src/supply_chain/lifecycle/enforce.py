"""Archive again what is blocked and can be pulled: a push brings an archived image back, whoever makes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from supply_chain.concurrency import side_by_side
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.standing import DIGESTS, read_standing, standing
from supply_chain.evidence.store import EvidenceStore
from supply_chain.lifecycle.rulings import PLANS, Indexes, close
from supply_chain.model.image import Digest, Frozen, ImageRef, StorageStatus, StoredManifest
from supply_chain.model.tier import CURATED, EVIDENCE, OFFERED, TierName
from supply_chain.text import counted

RULINGS = f"{EVIDENCE}{TierName.LIFECYCLE}/"
"""How the repositories begin in which blocks are signed."""


class Registry(Protocol):
    """Lists what a registry holds, and archives it."""

    def repositories(self, prefix: str) -> tuple[str, ...]: ...

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        """Every manifest of a repository, archived ones too."""

    def archive(self, ref: ImageRef) -> None: ...


class Surroundings(Indexes, Protocol):
    """Finds the encrypted copies of an image, and the indexes that list it."""

    def copies(self, ref: ImageRef) -> tuple[ImageRef, ...]: ...


class Enforced(Frozen):
    """What was archived again, and what could not be."""

    archived: tuple[ImageRef, ...] = Field(
        default=(), description="blocked images that could be pulled, and indexes that list them"
    )
    failed: dict[str, str] = Field(default_factory=dict, description="image → why it is not archived")

    def __str__(self) -> str:
        lines = [f"archived {counted(len(self.archived), 'blocked image')} that could be pulled"]
        lines += [f"  {each}" for each in self.archived]
        return "\n".join([*lines, *(f"  not archived: {image}: {why}" for image, why in self.failed.items())])


@dataclass(frozen=True)
class _Held:
    """What the registry holds below `dev/` and `curated/`: repository → digest → storage status."""

    statuses: dict[str, dict[Digest, StorageStatus]]

    def can_be_pulled(self, ref: ImageRef) -> bool:
        return self.statuses.get(ref.repository, {}).get(ref.digest, StorageStatus.ARCHIVED) is StorageStatus.ACTIVE


def enforce_blocks(registry: Registry, evidence: EvidenceStore, around: Surroundings) -> Enforced:
    """Archive every image, and every encrypted copy of one, that is blocked and can be pulled, under whatever name.

    One that cannot be archived, or of which it cannot be read whether it is blocked, is reported, and the others are
    archived all the same. Raises what the registry raises when it cannot list what it holds.
    """
    ruled = _ruled_digests(registry)
    names = [name for prefix in (OFFERED, CURATED) for name in registry.repositories(prefix)]
    listed = dict(zip(names, side_by_side(registry.images, names), strict=True))
    held = _Held({name: {each.digest: each.status for each in found} for name, found in listed.items()})
    archived: list[ImageRef] = []
    failed: dict[str, str] = {}
    for ref in _named(ruled, held):
        try:
            for each in _open_parts(ref, held, evidence, around):
                archived += close(each, registry, around)
        except SupplyChainError as error:
            failed[str(ref)] = str(error)
    return Enforced(archived=tuple(archived), failed=failed)


def _ruled_digests(registry: Registry) -> dict[Digest, set[str]]:
    """The digests about which the lifecycle ever decided something, and the repositories where it says so."""
    found: dict[Digest, set[str]] = defaultdict(set)
    for repository in registry.repositories(RULINGS):
        if repository != PLANS:
            for each in registry.images(repository):
                for subject in each.subjects:
                    found[subject].add(repository)
    return found


def _named(ruled: dict[Digest, set[str]], held: _Held) -> Iterator[ImageRef]:
    """Those images under each of their names, if their digest was ruled on under it or under all."""
    for repository, statuses in held.statuses.items():
        for digest in statuses.keys() & ruled.keys():
            ref = ImageRef(repository=repository, digest=digest)
            if ruled[digest] & {DIGESTS, f"{RULINGS}{ref.application}"}:
                yield ref


def _open_parts(ref: ImageRef, held: _Held, evidence: EvidenceStore, around: Surroundings) -> Iterator[ImageRef]:
    """Of a blocked image, itself and its encrypted copies, as far as they can be pulled."""
    if not standing(read_standing(ref, evidence).evidence).block:
        return
    if held.can_be_pulled(ref):
        yield ref
    if ref.repository.startswith(CURATED):
        yield from filter(held.can_be_pulled, around.copies(ref))
