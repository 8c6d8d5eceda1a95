"""Deployment records: evidence of what runs, and so of what should run from then on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from supply_chain.concurrency import side_by_side
from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.reading import proof
from supply_chain.evidence.statement import DEPLOYMENT, UNREADABLE, Evidence
from supply_chain.evidence.store import PREDICATE, EvidenceStore
from supply_chain.execution.deploy import Deployment, Expected
from supply_chain.image import Digest, ImageRef
from supply_chain.tier import TierName, evidence_repository

INSTANT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


class Repositories(Protocol):
    """What is asked of the registry."""

    def ensure_repository(self, repository: str, *, immutable: bool, key: str | None) -> None: ...

    def repositories(self, prefix: str) -> tuple[str, ...]: ...

    def all_newest_first(self, repository: str) -> tuple[Digest, ...]: ...


class Manifests(Protocol):
    """Reads manifests."""

    def manifest(self, ref: ImageRef) -> dict[str, Any]: ...


def record(
    deployment: Deployment, ref: ImageRef, repositories: Repositories, evidence: EvidenceStore, now: datetime
) -> Deployment:
    """Leave a record with the image's digest in the execution tier's own repository.

    The deployment, and the record that proves it where nothing changed since.
    """
    where = ref.moved_to(evidence_repository(TierName.EXECUTION, ref.application))
    repositories.ensure_repository(where.repository, immutable=True, key=None)
    known = None if deployment.changed else _last(where, deployment, evidence)
    if known:
        return deployment.model_copy(update={"proven": proof([known])})
    told = deployment.model_dump(mode="json", exclude={"proven"})
    evidence.attach(where, DEPLOYMENT, {"deployedAt": now.isoformat(), "deployment": told}, now)
    return deployment


def _last(where: ImageRef, deployment: Deployment, evidence: EvidenceStore) -> Evidence | None:
    """The last record of this environment, if it says of this container what is so now."""
    found = [e for e in evidence.verified(where, TierName.EXECUTION) if e.predicate_type == DEPLOYMENT]
    here = [(e, *_read(e)) for e in found]
    last = max((each for each in here if each[2].environment == deployment.environment), key=_at, default=None)
    expected = Expected.model_validate(deployment.model_dump(include=set(Expected.model_fields)))
    return last[0] if last and last[2] == expected else None


def _at(record: tuple[Evidence, datetime, Expected]) -> datetime:
    return record[1]


def should_run(
    repositories: Repositories, manifests: Manifests, evidence: EvidenceStore, application: str | None = None
) -> tuple[Expected, ...]:
    """The last deployment that the execution tier signed, for every environment; of one application, or of all."""
    where = [evidence_repository(TierName.EXECUTION, application or "")]

    def signed(repository: str) -> list[tuple[datetime, Expected]]:
        subjects = _subjects(repository, repositories, manifests)
        statements = [s for subject in subjects for s in evidence.verified(subject, TierName.EXECUTION)]
        return [_read(s) for s in statements if s.predicate_type == DEPLOYMENT]

    found: dict[tuple[str, str], tuple[datetime, Expected]] = {}
    for records in side_by_side(signed, where if application else repositories.repositories(where[0])):
        for at, expected in records:
            key = (expected.environment, expected.application)
            if key not in found or at > found[key][0]:
                found[key] = (at, expected)
    return tuple(expected for _, (_, expected) in sorted(found.items()))


def _subjects(repository: str, repositories: Repositories, manifests: Manifests) -> Iterable[ImageRef]:
    """The digests that a repository's deployment records are about, the last one first."""
    seen: dict[Digest, None] = {}
    for digest in repositories.all_newest_first(repository):
        manifest = manifests.manifest(ImageRef(repository=repository, digest=digest))
        about = (manifest.get("subject") or {}).get("digest")
        if about and (manifest.get("annotations") or {}).get(PREDICATE) == DEPLOYMENT:
            seen.setdefault(about, None)
    return [ImageRef(repository=repository, digest=digest) for digest in seen]


def _read(evidence: Evidence) -> tuple[datetime, Expected]:
    try:
        known = evidence.predicate["deployment"]
        return INSTANT.validate_python(evidence.predicate["deployedAt"]), Expected.model_validate(
            {name: known[name] for name in Expected.model_fields if name in known}
        )
    except (ValidationError, KeyError, TypeError) as error:
        raise EvidenceInvalid(f"A signed deployment record cannot be read: {str(error)[:500]}\n{UNREADABLE}") from error
