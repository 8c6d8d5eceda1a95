"""The step that pushes a tested image to development's repository and attaches its signed evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from supply_chain.development.build import make_local_name
from supply_chain.development.test import TestedImage
from supply_chain.errors import ImageDamaged
from supply_chain.evidence.checks import Check
from supply_chain.evidence.provenance import make_provenance
from supply_chain.evidence.statement import PROVENANCE, TEST_RESULT, VULNERABILITIES
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.declaration import Base, Service
from supply_chain.model.image import Candidate, Digest, ImageRef
from supply_chain.model.registry_ports import RepositoryCreator
from supply_chain.model.tier import name_development_repository


class Pusher(Protocol):
    """Pushes images from the engine's store."""

    def push(self, local: str, repository: str, tag: str) -> Digest:
        """Push an image, and return the digest that the registry gives for the tag afterwards."""


def offer(
    tested: TestedImage,
    declaration: Service | Base,
    pusher: Pusher,
    repositories: RepositoryCreator,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
) -> Candidate:
    """Push a tested image, attach its evidence, and return the candidate.

    The tag is only there because clients ask for one; all later steps use the digest. Images and evidence that are
    already in the registry stay as they are. Raises `ImageDamaged` if the registry holds another digest after the push.
    """
    built = tested.built
    ref = ImageRef(repository=name_development_repository(declaration.name), digest=built.digest)
    if built.proven and tested.proven:
        return Candidate(ref=ref, source=built.source, evidence=tested.proven.evidence, proven=tested.proven)
    if not built.proven:
        _push(tested, ref, pusher, repositories)
    attached = evidence.attach_all(ref, _results(tested), now())
    if not built.proven:  # attached last: where it exists, all other evidence does too
        attached = (*attached, evidence.attach(ref, PROVENANCE, make_provenance(built, declaration).predicate(), now()))
    return Candidate(ref=ref, source=built.source, evidence=attached)


def _results(tested: TestedImage) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the results that are not in the registry yet, as pairs of predicate type and predicate."""
    results = [(TEST_RESULT, check.predicate()) for check in tested.checks if check.check not in tested.stored_checks]
    if Check.DEPENDENCIES in tested.stored_checks:
        return results
    return [*results, (VULNERABILITIES, tested.dependencies.predicate())]


def _push(tested: TestedImage, ref: ImageRef, pusher: Pusher, repositories: RepositoryCreator) -> None:
    built = tested.built
    repositories.ensure_repository(ref.repository, immutable=False, key=None)
    local, tag = make_local_name(built.application, built.invocation), f"{built.source.short}-{ref.short}"
    pushed = pusher.push(local, ref.repository, tag)
    if pushed != ref.digest:
        raise ImageDamaged(
            f"{ref.repository} holds {pushed} after a push of {ref.digest}.\n"
            "Somebody pushed the same tag, or the engine does not use the containerd image store (`cscm doctor`)."
        )
