"""Blocks of an image and of what it was built with: they refuse it at a gate that does not decide, or has decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from supply_chain.concurrency import map_concurrently
from supply_chain.evidence.image_status import LifecycleDecision, compute_image_status, read_blocks, read_image_status
from supply_chain.evidence.provenance import Provenance
from supply_chain.evidence.statement import VerifiedStatement
from supply_chain.evidence.store import EvidenceStore, Reading
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.outcome import BASE_BLOCKED, IMAGE_BLOCKED, Reason

Statements = Mapping[str, tuple[VerifiedStatement, ...]]
"""Repository and digest of an image that a build used → the lifecycle's statements about it."""


def read_base_statements(bases: Iterable[ImageRef], built: Provenance | None, store: EvidenceStore) -> Statements:
    """Return the lifecycle's statements about every image that a build used.

    That is these bases, and every other material, by its digest under any name.
    """
    bases = tuple(bases)
    digests = {base.digest for base in bases}
    others = [(digest, name) for digest, name in (built.materials if built else ()) if digest not in digests]
    reads: list[tuple[str, Callable[[], Reading]]] = [
        *((str(base), partial(read_image_status, base, store)) for base in bases),
        *((f"{name.partition('@')[0]}@{digest}", partial(read_blocks, digest, store)) for digest, name in others),
    ]
    return dict(map_concurrently(lambda each: (each[0], each[1]().list_signed_by(TierName.LIFECYCLE)), reads))


def find_blocked_bases(statements: Statements) -> dict[str, LifecycleDecision]:
    """Return those that are blocked, each with its block."""
    return {base: block for base, evidence in statements.items() if (block := compute_image_status(evidence).block)}


def block_reasons(block: LifecycleDecision | None, bases: Mapping[str, LifecycleDecision]) -> Iterator[Reason]:
    """Yield why an image is refused because of its own block and of those of its bases."""
    if block is not None:
        remedy = "build a new image without the reason of the block, or lift the block with `cscm unblock`"
        yield Reason(code=IMAGE_BLOCKED, fact=f"it was blocked {block}", remedy=remedy)
    for base, each in bases.items():
        remedy = "build it again on a base that is not blocked, or lift the block with `cscm unblock`"
        yield Reason(code=BASE_BLOCKED, fact=f"{base}, which it is built on or with, was blocked {each}", remedy=remedy)
