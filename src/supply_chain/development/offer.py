"""offer: push to development's repository, and leave the signed evidence beside the image."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from supply_chain.app import Base, Service
from supply_chain.development.build import provenance
from supply_chain.development.test import TestedImage
from supply_chain.errors import ImageDamaged
from supply_chain.evidence.statement import PROVENANCE, TEST_RESULT, VULNERABILITIES
from supply_chain.evidence.store import EvidenceStore
from supply_chain.image import Candidate, Digest, ImageRef, short
from supply_chain.tier import development_repository


class Pusher(Protocol):
    """Pushes from the engine's store."""

    def push(self, local: str, repository: str, tag: str) -> Digest:
        """Push; the digest that the registry gives the tag afterwards."""


class Repositories(Protocol):
    """Makes repositories."""

    def ensure_repository(self, repository: str, *, immutable: bool, key: str | None) -> None: ...


def offer(
    tested: TestedImage,
    manifest: Service | Base,
    pusher: Pusher,
    repositories: Repositories,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
) -> Candidate:
    """Push under a tag because clients ask for one, and go on with the digest the registry answered."""
    built = tested.built
    repository = development_repository(manifest.name)
    repositories.ensure_repository(repository, immutable=False, key=None)
    pushed = pusher.push(built.local, repository, f"{built.source.short}-{short(built.digest)}")
    if pushed != built.digest:
        raise ImageDamaged(
            f"{repository} holds {pushed} after a push of {built.digest}.\n"
            "Somebody pushed the same tag, or the engine does not use the containerd image store (`cscm doctor`)."
        )
    ref = ImageRef(repository=repository, digest=pushed)
    statements = [
        (PROVENANCE, provenance(built, manifest)),
        *((TEST_RESULT, check.predicate()) for check in tested.checks),
        (VULNERABILITIES, tested.dependencies.predicate()),
    ]
    return Candidate(ref=ref, source=built.source, evidence=evidence.attach_all(ref, statements, now()))
