"""Archive blocked images again that can be pulled, as any push restores an archived image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.image_status import DIGESTS, compute_image_status, read_image_status
from supply_chain.evidence.store import EvidenceStore
from supply_chain.lifecycle.decisions import PLANS, RelatedManifests, archive_image
from supply_chain.model.image import Digest, ImageRef, Model, StorageStatus
from supply_chain.model.registry_ports import ImageArchiver, ManifestLister
from supply_chain.model.tier import CURATED, EVIDENCE, OFFERED, TierName
from supply_chain.text import pluralize

DECISIONS = f"{EVIDENCE}{TierName.LIFECYCLE}/"
"""Prefix of the repositories that hold lifecycle decisions."""


class ArchivingRegistry(ManifestLister, ImageArchiver, Protocol):
    """A registry that lists its manifests and archives images."""


class ArchivedImages(Model):
    """The images that were archived again, and those that could not be."""

    archived: tuple[ImageRef, ...] = Field(
        default=(), description="blocked images that could be pulled, and indexes that contain them"
    )
    failed: dict[str, str] = Field(default_factory=dict, description="image → why it is not archived")

    def __str__(self) -> str:
        lines = [f"archived {pluralize(len(self.archived), 'blocked image')} that could be pulled"]
        lines += [f"  {each}" for each in self.archived]
        return "\n".join([*lines, *(f"  not archived: {image}: {why}" for image, why in self.failed.items())])


@dataclass(frozen=True)
class _Contents:
    """The contents of the repositories below `dev/` and `curated/`: repository → digest → storage status."""

    statuses: dict[str, dict[Digest, StorageStatus]]

    def can_be_pulled(self, ref: ImageRef) -> bool:
        return self.statuses.get(ref.repository, {}).get(ref.digest, StorageStatus.ARCHIVED) is StorageStatus.ACTIVE


def archive_blocked_images(
    registry: ArchivingRegistry, evidence: EvidenceStore, around: RelatedManifests
) -> ArchivedImages:
    """Archive every blocked image, and each of its encrypted copies, that can be pulled under any name.

    An image that cannot be archived, or whose status cannot be read, is reported, and the others are still archived.
    Raises the registry's errors if it cannot list its contents.
    """
    decided = _list_decided_digests(registry)
    names = [name for prefix in (OFFERED, CURATED) for name in registry.repositories(prefix)]
    listed = dict(zip(names, map_concurrently(registry.images, names), strict=True))
    contents = _Contents({name: {each.digest: each.status for each in manifests} for name, manifests in listed.items()})
    archived: list[ImageRef] = []
    failed: dict[str, str] = {}
    for ref in _find_named(decided, contents):
        try:
            for each in _find_pullable_parts(ref, contents, evidence, around):
                archived += archive_image(each, registry, around)
        except SupplyChainError as error:
            failed[str(ref)] = str(error)
    return ArchivedImages(archived=tuple(archived), failed=failed)


def _list_decided_digests(registry: ArchivingRegistry) -> dict[Digest, set[str]]:
    """Return the digests with lifecycle decisions, and the repositories that hold these decisions."""
    digests: dict[Digest, set[str]] = defaultdict(set)
    for repository in registry.repositories(DECISIONS):
        if repository != PLANS:
            for each in registry.images(repository):
                for subject in each.subjects:
                    digests[subject].add(repository)
    return digests


def _find_named(decided: dict[Digest, set[str]], contents: _Contents) -> Iterator[ImageRef]:
    """Yield the images with such a digest under each name, if the decision is about that name or about all names."""
    for repository, statuses in contents.statuses.items():
        for digest in statuses.keys() & decided.keys():
            ref = ImageRef(repository=repository, digest=digest)
            if decided[digest] & {DIGESTS, f"{DECISIONS}{ref.application}"}:
                yield ref


def _find_pullable_parts(
    ref: ImageRef, contents: _Contents, evidence: EvidenceStore, around: RelatedManifests
) -> Iterator[ImageRef]:
    """Yield a blocked image and its encrypted copies, as far as they can be pulled."""
    if not compute_image_status(read_image_status(ref, evidence).evidence).block:
        return
    if contents.can_be_pulled(ref):
        yield ref
    if ref.repository.startswith(CURATED):
        yield from filter(contents.can_be_pulled, around.copies(ref))
