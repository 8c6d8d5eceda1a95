"""The order in which manifests are removed, and the batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from supply_chain.lifecycle.plan import Step
from supply_chain.lifecycle.snapshot import Member
from supply_chain.model.image import Digest

AT_ONCE = 100
"""Maximum number of manifests in one call (ECR API, BatchDeleteImage)."""


def compute_removal_order(going: Collection[Digest], existing: Mapping[Digest, Member]) -> dict[Digest, set[Digest]]:
    """Return what must be removed before each manifest: referrers, encrypted copies, and indexes that list it.

    An encrypted copy is also removed before the referrers of its image, because only they say what it is a copy of.
    """
    dependents: dict[Digest, set[Digest]] = {digest: set() for digest in going}
    copies: dict[Digest, set[Digest]] = defaultdict(set)
    for digest, member in existing.items():
        if member.copy_of:
            copies[member.copy_of].add(digest)
    for digest in going:
        if digest in existing:
            for subject in existing[digest].subjects:
                dependents[digest] |= copies[subject] - {digest}
    for digest, member in existing.items():
        for owner in member.of:
            if owner in dependents:
                dependents[owner].add(digest)
        for child in member.children:
            if child in dependents:
                dependents[child].add(digest)
    return dependents


def batch_removals(going: Mapping[Digest, Step], first: Mapping[Digest, set[Digest]]) -> Iterator[list[Step]]:
    """Yield the steps in batches of about `AT_ONCE`; manifests that belong to each other are in the same batch."""
    near: dict[Digest, set[Digest]] = defaultdict(set)
    for digest, step in going.items():
        for other in {*first[digest], *step.belongs_to, *step.dependents} & going.keys():
            near[digest].add(other)
            near[other].add(digest)
    left = dict(going)
    batch: list[Step] = []
    while left:
        queue = [next(iter(left))]
        while queue:
            digest = queue.pop()
            if digest in left:
                batch.append(left.pop(digest))
                queue += near[digest]
        if len(batch) >= AT_ONCE or not left:
            yield sorted(batch, key=lambda each: each.ref.digest)
            batch = []
