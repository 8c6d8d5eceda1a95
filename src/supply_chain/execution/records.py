"""Deployment records: signed evidence of what runs, and so of what should run from then on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, ConfigDict, Field, field_validator

from supply_chain.concurrency import map_concurrently
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.reading import SignedValue, make_proof, read_statements
from supply_chain.evidence.statement import DEPLOYMENT, ISOLATION, VerifiedStatement
from supply_chain.evidence.store import PREDICATE, EvidenceStore
from supply_chain.execution.deployment import Deployed, Deployment, DockerPlace, Expected
from supply_chain.execution.isolation.record import IsolationRecord, find_last_records
from supply_chain.model.image import Digest, ImageRef, Model
from supply_chain.model.registry_ports import ManifestReader, PushLister
from supply_chain.model.tier import TierName, name_evidence_repository
from supply_chain.policy.verdict import locate_execution_evidence


class DeploymentRecord(Model):
    """The predicate of `statement.DEPLOYMENT`."""

    model_config = ConfigDict(populate_by_name=True, extra="ignore")  # as in `Deployed`

    deployed_at: AwareDatetime = Field(alias="deployedAt")
    deployment: Deployed

    @field_validator("deployment", mode="before")
    @classmethod
    def _read_earlier(cls, value: Any) -> Any:
        """Read a record of an earlier version, which is of a container host and has no `place`."""
        if not isinstance(value, dict) or "place" in value:
            return value
        place = {key: value[key] for key in DockerPlace.model_fields if key in value}
        return {**value, "place": {**place, "target": "docker"}}

    def predicate(self) -> dict[str, Any]:
        """Return the predicate as it is signed; its time is written as `datetime.isoformat` does."""
        content = self.model_dump(mode="json", by_alias=True)
        return {**content, "deployedAt": self.deployed_at.isoformat()}


def record(deployment: Deployment, ref: ImageRef, evidence: EvidenceStore, now: datetime) -> Deployment:
    """Sign a deployment record, in the execution tier's own repository, and return the deployment.

    The repository must exist. If nothing changed since the last record, that one is named as the proof instead.
    """
    where = locate_execution_evidence(ref)
    last = None if deployment.changed else _find_last_record(where, deployment, evidence)
    if last:
        return deployment.model_copy(update={"proven": make_proof([last])})
    evidence.attach(where, DEPLOYMENT, DeploymentRecord(deployed_at=now, deployment=deployment).predicate(), now)
    return deployment


def _find_last_record(where: ImageRef, deployment: Deployment, evidence: EvidenceStore) -> VerifiedStatement | None:
    """Return the last record of this environment, if it describes the current container and state."""
    records = read_records(evidence.read_verified(where, TierName.EXECUTION, DEPLOYMENT))
    here = [each for each in records if each.value.environment == deployment.environment]
    return here[-1].evidence if here and here[-1].value == deployment.expected else None


def read_expected(
    environments: Collection[str],
    repositories: PushLister,
    manifests: ManifestReader,
    evidence: EvidenceStore,
    application: str | None = None,
) -> tuple[Expected, ...]:
    """Return the last signed deployment to each environment, of one application or of all."""
    deployments = map_concurrently(
        lambda repository: _read_last(repository, environments, repositories, manifests, evidence),
        _record_repositories(repositories, application),
    )
    return tuple(sorted((e for each in deployments for e in each), key=lambda e: (e.environment, e.application)))


def read_history(
    repositories: PushLister, manifests: ManifestReader, evidence: EvidenceStore, application: str | None = None
) -> tuple[SignedValue[Expected], ...]:
    """Return every signed deployment, the oldest first, of one application or of all."""
    names = _record_repositories(repositories, application)
    subjects = [subject for name in names for subject, _ in _read_subjects(name, DEPLOYMENT, repositories, manifests)]
    read = map_concurrently(
        lambda subject: read_records(evidence.read_verified(subject, TierName.EXECUTION, DEPLOYMENT)), subjects
    )
    own = [
        each
        for subject, records in zip(subjects, read, strict=True)
        for each in records
        if name_evidence_repository(TierName.EXECUTION, each.value.application) == subject.repository
    ]
    return tuple(sorted(own, key=lambda each: each.at))


def _record_repositories(repositories: PushLister, application: str | None) -> Sequence[str]:
    """Return the repositories of the records of one application, or of all.

    For one application, repositories of others are not listed.
    """
    where = name_evidence_repository(TierName.EXECUTION, application or "")
    return [where] if application else repositories.repositories(where)


def _read_last(
    repository: str,
    environments: Collection[str],
    repositories: PushLister,
    manifests: ManifestReader,
    evidence: EvidenceStore,
) -> list[Expected]:
    """Return the last deployment of a repository's application to each environment, by the signed time.

    A record is signed before it is pushed. Therefore a record that was pushed before the last ones were signed is older
    than those, also if a clock is wrong by `SKEW`, and is not read.
    """
    last: dict[str, SignedValue[Expected]] = {}
    for subject, pushed in _read_subjects(repository, DEPLOYMENT, repositories, manifests):
        if last and last.keys() >= set(environments) and pushed + SKEW < min(each.at for each in last.values()):
            break
        for each in read_records(evidence.read_verified(subject, TierName.EXECUTION, DEPLOYMENT)):
            expected, before = each.value, last.get(each.value.environment)
            home = name_evidence_repository(TierName.EXECUTION, expected.application)
            newer = before is None or (each.at > before.at and pushed + SKEW >= before.at)
            if home == repository and expected.environment in environments and newer:
                last[expected.environment] = each
    return [each.value for each in last.values()]


def read_isolations(
    environment: str, repositories: PushLister, manifests: ManifestReader, evidence: EvidenceStore, application: str
) -> tuple[IsolationRecord, ...]:
    """Return the last signed record of each isolation of an application in an environment."""
    repository = name_evidence_repository(TierName.EXECUTION, application)
    subjects = [subject for subject, _ in _read_subjects(repository, ISOLATION, repositories, manifests)]
    read = map_concurrently(
        lambda each: find_last_records(evidence.read_verified(each, TierName.EXECUTION, ISOLATION)), subjects
    )
    return tuple(
        each
        for records in read
        for each in records
        if (each.environment, each.application) == (environment, application)
    )


def _read_subjects(
    repository: str, predicate: str, repositories: PushLister, manifests: ManifestReader
) -> Iterator[tuple[ImageRef, datetime]]:
    """Yield the digests that statements in a repository are about, with their last push, the last first."""
    listed: set[Digest] = set()
    for digest, pushed in repositories.list_pushes(repository):
        manifest = manifests.manifest(ImageRef(repository=repository, digest=digest))
        about = (manifest.get("subject") or {}).get("digest")
        if about and about not in listed and (manifest.get("annotations") or {}).get(PREDICATE) == predicate:
            listed.add(about)
            yield ImageRef(repository=repository, digest=about), pushed


def read_records(evidence: Iterable[VerifiedStatement]) -> tuple[SignedValue[Expected], ...]:
    """Return what each deployment record says should run, the oldest first; raise `EvidenceInvalid` if unreadable."""
    return read_statements(
        evidence, DEPLOYMENT, lambda predicate: DeploymentRecord.model_validate(predicate).deployment.expected
    )
