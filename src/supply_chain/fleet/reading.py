"""Functions that read inventory entries from the registry's listings and from verified evidence only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from supply_chain.errors import UNREADABLE, EvidenceInvalid, ImageNotFound
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.clock import find_statement_time
from supply_chain.evidence.encryption import list_encryption_records
from supply_chain.evidence.image_status import compute_image_status, read_decisions
from supply_chain.evidence.provenance import Provenance, find_last_provenance
from supply_chain.evidence.reading import SignedValue, is_signed, read_statements
from supply_chain.evidence.sbom import Package, read_signed_sbom
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.statement import (
    APPROVAL,
    BREAK_GLASS,
    DEPLOYMENT,
    ENCRYPTION,
    LOOK_AT_IT,
    SOAK,
    VerifiedStatement,
)
from supply_chain.evidence.store import BEFORE_ALL, EvidenceStore
from supply_chain.evidence.summary import list_verdicts
from supply_chain.execution.deployment import Expected, KubernetesPlace
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS
from supply_chain.execution.records import read_records
from supply_chain.fleet.image import BuiltOn, FleetImage, Judgement, Note, Running, Scan
from supply_chain.fleet.inventory import Entry
from supply_chain.model.image import Digest, ImageRef, StoredManifest
from supply_chain.model.registry_ports import ManifestLister
from supply_chain.model.tier import (
    JUDGE,
    Gate,
    TierName,
    name_curated_repository,
    name_development_repository,
    name_evidence_repository,
)
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Reason
from supply_chain.policy.reading import read_execution_statements
from supply_chain.vulnerability.reports import find_last_report

ELSEWHERE = (TierName.CURATION, TierName.EXECUTION, TierName.LIFECYCLE)
"""The tiers that sign statements about images of other tiers."""


@dataclass(frozen=True)
class Listing:
    """What the registry lists for an application."""

    application: str
    images: tuple[StoredManifest, ...]
    missing: Mapping[Digest, StoredManifest]
    """Subjects that are missing in the registry but still have referrers. They may still run or have an encrypted
    copy."""
    referrers: Mapping[Digest, tuple[str, ...]]
    """Digest → its referrers in all repositories, sorted."""

    @property
    def repository(self) -> str:
        """The repository of the images."""
        return name_curated_repository(self.application)

    def mark(self, stored: StoredManifest) -> str:
        """Return a digest of everything that an image is read from, except the time of its last pull."""
        facts = stored.model_dump_json(exclude={"pulled_at"})
        return hashlib.sha256("\n".join((facts, *self.referrers.get(stored.digest, ()))).encode()).hexdigest()


def list_evidence_repositories(application: str) -> tuple[str, ...]:
    """Return the repositories that can have statements about an application's curated images."""
    return name_curated_repository(application), *(name_evidence_repository(tier, application) for tier in ELSEWHERE)


def is_image(stored: StoredManifest) -> bool:
    """Return whether a manifest in a curated repository is an image or an encrypted copy, and not a referrer."""
    return not stored.subjects


def read_listing(application: str, registry: ManifestLister) -> Listing:
    """Read what the registry lists for an application."""
    places = list_evidence_repositories(application)
    stored = {place: registry.images(place) for place in places}
    referrers: dict[Digest, list[str]] = {}
    for place, manifests in stored.items():
        for each in manifests:
            if each.subject:
                referrers.setdefault(each.subject, []).append(f"{place}@{each.digest}")
    own = stored[name_curated_repository(application)]
    related = (*own, *stored[name_evidence_repository(TierName.EXECUTION, application)])
    missing = {each.subject for each in related if each.subject} - {each.digest for each in own}
    return Listing(
        application,
        tuple(filter(is_image, own)),
        {each: StoredManifest(digest=each, pushed_at=BEFORE_ALL, size=0) for each in sorted(missing)},
        {subject: tuple(sorted(refs)) for subject, refs in referrers.items()},
    )


def read_offered(listed: Listing, registry: ManifestLister, registered: Holder | None) -> dict[ImageRef, str]:
    """Return the offered images of an application that the intake gate judged, each with a mark.

    It admitted those that are in the curated repository, and refused those with evidence of curation elsewhere. The
    mark is a digest of what the facts of the gate are read from: what is attached to the image, what the lifecycle
    signed about it, and who holds the name in the register.
    """
    repository = name_development_repository(listed.application)
    manifests = registry.images(repository)
    attached: dict[Digest, list[str]] = {}
    for each in manifests:
        if each.subject:
            attached.setdefault(each.subject, []).append(each.digest)
    holder = registered.model_dump_json() if registered else ""
    refused, of_lifecycle = (
        f"{name_evidence_repository(tier, listed.application)}@" for tier in (TierName.CURATION, TierName.LIFECYCLE)
    )
    curated, marks = {each.digest for each in listed.images}, {}
    for each in filter(is_image, manifests):
        elsewhere = listed.referrers.get(each.digest, ())
        if each.digest in curated or any(name.startswith(refused) for name in elsewhere):
            decisions = (name for name in elsewhere if name.startswith(of_lifecycle))
            facts = "\n".join((holder, *sorted(attached.get(each.digest, ())), *decisions))
            marks[ImageRef(repository=repository, digest=each.digest)] = hashlib.sha256(facts.encode()).hexdigest()
    return marks


def read_entries(
    listed: Listing, manifests: Sequence[StoredManifest], store: EvidenceStore, host_of: Callable[[str], str]
) -> tuple[Entry, ...]:
    """Read the entries of these images of a listing, also of images that are gone.

    If the evidence of an image cannot be read, its entry says so (`unreadable`). `host_of` returns the container host
    of an environment. Raises the registry's errors; no entry is returned then.
    """
    return tuple(_entry(listed, stored, store, host_of) for stored in manifests)


def _entry(listed: Listing, stored: StoredManifest, store: EvidenceStore, host_of: Callable[[str], str]) -> Entry:
    ref = ImageRef(repository=listed.repository, digest=stored.digest)
    mark, packages = listed.mark(stored), frozenset[Package]()
    try:
        image, packages = _read_valid(ref, stored, store, host_of)
    except (ImageNotFound, *UNREADABLE) as error:
        if isinstance(error, ImageNotFound) and stored.digest not in listed.missing:
            raise  # removed while it was read; for an image in `find_fixes` the SBOM may be missing, too
        mark, remaining = "", _read_remaining(ref, store, host_of)
        image = FleetImage(ref=ref, stored=stored, unreadable=str(error), **remaining)
    return Entry(image.model_copy(update={"missing": stored.digest in listed.missing}), packages, mark)


def _read_valid(
    ref: ImageRef, stored: StoredManifest, store: EvidenceStore, host_of: Callable[[str], str]
) -> tuple[FleetImage, frozenset[Package]]:
    """Read an image as `read_image` does; raise `EvidenceInvalid` also if a signed value does not fit the model."""
    try:
        return read_image(ref, stored, store, host_of)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{error.title}.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise EvidenceInvalid(f"What is signed of {ref} cannot be read: {why[:500]}\n{LOOK_AT_IT}") from error


def _read_remaining(ref: ImageRef, store: EvidenceStore, host_of: Callable[[str], str]) -> dict[str, Any]:
    """Return the copies and deployments of an image whose evidence cannot be read, each as far as it can be read.

    Without them, an older image would count as the one that runs, and a copy as an image.
    """
    remaining: dict[str, Any] = {}
    with suppress(*UNREADABLE):
        remaining["copies"] = _list_copies(store.read_verified(ref, TierName.CURATION, ENCRYPTION))
    with suppress(*UNREADABLE):
        remaining["deployed"] = _list_deployments(read_execution_statements(ref, store, DEPLOYMENT), host_of)
    return remaining


def read_image(
    ref: ImageRef, stored: StoredManifest, store: EvidenceStore, host_of: Callable[[str], str]
) -> tuple[FleetImage, frozenset[Package]]:
    """Read an image and its packages from the evidence that is signed now; raise if that cannot be read."""
    places = [ref.with_repository(place) for place in list_evidence_repositories(ref.application)]
    evidence = tuple(each for place in places for each in store.read(place).evidence)
    by = {signer: tuple(each for each in evidence if each.signer is signer) for signer in TierName}
    own = tuple(each for each in by[TierName.CURATION] if each.repository == ref.repository)
    status = compute_image_status(by[TierName.LIFECYCLE])
    sbom, report = read_signed_sbom(own, store.referrers.content), find_last_report(own)
    image = FleetImage(
        ref=ref,
        stored=stored,
        **_read_declared(find_last_provenance(by[TierName.DEVELOPMENT])),
        signed=is_signed(own),
        sbom=sbom.referrer if sbom else None,
        sbom_content=sbom.digest if sbom else None,
        scan=Scan.of(report.value) if report else None,
        judgements=tuple(j for gate in Gate for j in _list_verdicts(by[JUDGE[gate]], gate, ref.digest)),
        notes=_list_notes(evidence),
        blocked=str(status.block or ""),
        held=str(status.hold or ""),
        copies=_list_copies(own),
        deployed=_list_deployments(by[TierName.EXECUTION], host_of),
    )
    return image, sbom.packages if sbom else frozenset()


def _read_declared(built: Provenance | None) -> dict[str, Any]:
    """Return what the builder's provenance says of the image."""
    if built is None:
        return {}
    declaration = built.declaration
    return {
        "kind": declaration.kind,
        "owner": declaration.owner,
        "source": built.source,
        "environments": declaration.environments,
        "bases": tuple(BuiltOn(digest=digest, name=name) for digest, name in built.materials),
    }


def _list_verdicts(evidence: Iterable[VerifiedStatement], gate: Gate, digest: Digest) -> Iterator[Judgement]:
    by_time = {each.at: each for each in list_verdicts(evidence, gate, digest)}  # curation stores a refusal twice
    for each in by_time.values():
        yield Judgement(
            gate=gate,
            environment=each.value.cscm.environment,
            passed=each.value.passed,
            at=each.at,
            reasons=tuple(Reason.model_validate(reason) for reason in each.value.cscm.reasons),
            waivers=each.value.cscm.waivers,
            expires=each.value.cscm.expires,
            policy=f"sha256:{each.value.policy.digest.get('sha256')}",
            evidence=each.evidence.digest,
        )


def _list_notes(evidence: Iterable[VerifiedStatement]) -> tuple[Note, ...]:
    statements = tuple(evidence)
    execution = [each for each in statements if each.signer is TierName.EXECUTION]
    lifecycle = {each.evidence.digest: f"{each.value.act}: {each.value}" for each in read_decisions(statements)}
    decided = {
        each.evidence.digest: str(each.value) for each in read_statements(execution, APPROVAL, Approval.model_validate)
    }
    opened = read_statements(execution, BREAK_GLASS, BreakGlass.model_validate)
    decided |= {each.evidence.digest: str(each.value) for each in opened}
    soaked = {each.evidence.digest: str(each.value) for each in read_statements(execution, SOAK, Soak.model_validate)}
    texts = {**lifecycle, **decided, **soaked}
    notes = (
        Note(
            digest=each.digest,
            repository=each.repository,
            predicate_type=each.predicate_type,
            signer=each.signer,
            at=find_statement_time(each.statement) or each.attached,
            message=texts.get(each.digest, ""),
        )
        for each in statements
    )
    return tuple(sorted(notes, key=lambda note: (note.at or BEFORE_ALL, note.digest)))


def _list_copies(evidence: Iterable[VerifiedStatement]) -> tuple[Digest, ...]:
    """Return the digests of the encrypted copies."""
    return tuple(e.value.encrypted_copy.encrypted for e in list_encryption_records(evidence) if e.value.encrypted_copy)


def _list_deployments(evidence: Iterable[VerifiedStatement], host_of: Callable[[str], str]) -> tuple[Running, ...]:
    return tuple(_parse_deployment(each, host_of) for each in read_records(evidence))


def _parse_deployment(record: SignedValue[Expected], host_of: Callable[[str], str]) -> Running:
    expected = record.value
    in_cluster = expected.place if isinstance(expected.place, KubernetesPlace) else None
    return Running(
        environment=expected.environment,
        application=expected.application,
        container=expected.container,
        name=expected.name,
        reverse_proxy=expected.reverse_proxy,
        address=expected.url,
        host="" if in_cluster else host_of(expected.environment),
        cluster=in_cluster.cluster if in_cluster else "",
        namespace=in_cluster.namespace if in_cluster else "",
        workload=f"{DEPLOYMENTS.name}/{expected.name}" if in_cluster else "",
        since=record.at,
        break_glass=expected.break_glass,
    )
