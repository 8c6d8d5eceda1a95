"""Functions that read the facts for a plan from the registry and from signed evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import UNREADABLE, ImageNotFound
from supply_chain.evidence.encryption import EncryptionRecord, list_encryption_records
from supply_chain.evidence.image_status import ImageStatus, compute_image_status, read_image_status
from supply_chain.evidence.provenance import find_last_provenance
from supply_chain.evidence.statement import ENCRYPTION, PROVENANCE
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.environment import DockerEnvironment, Environment
from supply_chain.execution.records import read_history
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.reading import read_image
from supply_chain.lifecycle.snapshot import INDEXES, EvidenceSummary, Member, PastDeployment, RepositorySnapshot
from supply_chain.model.image import Digest, ImageRef, StorageStatus, StoredManifest
from supply_chain.model.registry_ports import ManifestLister, ManifestReader, PushLister
from supply_chain.model.tier import CURATED, EVIDENCE, TierName


class LifecycleImages(ManifestLister, PushLister, Protocol):
    """A registry that lists its manifests, also by the time of their push."""


@dataclass(frozen=True)
class RegistryReader:
    """The present state; implements `preconditions.Present` and `decisions.RelatedDeployments`."""

    images: LifecycleImages
    manifests: ManifestReader
    evidence: EvidenceStore
    environments: Callable[[], Sequence[Environment]] = tuple
    """Returns the environments whose documents can be read, as they are declared now."""

    def members(self, repository: str) -> tuple[Member, ...]:
        """Return every manifest of a repository with what it belongs to; for archived ones, as far as evidence shows.

        If the encrypted copies of an image or the children of an index are unknown, every manifest that may be one is
        guessed to be its child. If the image is gone, they are guessed to be children of its referrers.
        """
        return self._members(repository)[0]

    def _members(self, repository: str) -> tuple[tuple[Member, ...], dict[ImageRef, str]]:
        """Return the members, and the reason for each image whose encrypted copies or children cannot be read."""
        stored = self.images.images(repository)
        results = map_concurrently(lambda each: self._member(repository, each), stored)
        read = [member for member, _ in results]
        images = [member.ref for member in read if not member.subjects]
        missing_subjects = _missing_subjects(read)
        subjects = (*images, *missing_subjects)
        encryption = dict(zip(subjects, map_concurrently(self._encryption, subjects), strict=True))
        copies = {
            copy.digest: ref.digest for ref, each in encryption.items() for copy in _list_copies(ref, each.records)
        }
        dark = {
            ref: each.unreadable for ref, each in encryption.items() if each.unreadable and ref.digest not in copies
        }
        dark |= {member.ref: why for member, why in results if why}
        # curation signs a record for every image and for no copy
        perhaps = tuple(ref.digest for ref in images if encryption[ref] == _Encryption() and ref.digest not in copies)
        members = [member.model_copy(update={"copy_of": copies.get(member.ref.digest)}) for member in read]
        darkened = {
            *dark,
            *(
                m.ref
                for m in members
                if {m.ref.with_digest(each) for each in m.subjects} & dark.keys() & set(missing_subjects)
            ),
        }
        return tuple(
            _with_possible_children(m, perhaps) if m.guessed or m.ref in darkened else m for m in members
        ), dark

    def _member(self, repository: str, stored: StoredManifest) -> tuple[Member, str]:
        """Return a manifest, and why its children cannot be read if it is a damaged index."""
        ref = ImageRef(repository=repository, digest=stored.digest)
        member = Member(ref=ref, stored=stored, subjects=stored.subjects)
        if stored.media_type not in INDEXES:
            return member, ""
        if stored.status is not StorageStatus.ACTIVE:  # nobody can pull it
            return member.model_copy(update={"guessed": True}), ""
        try:
            children = tuple(each["digest"] for each in self.manifests.manifest(ref).get("manifests") or ())
        except UNREADABLE as error:
            return member, str(error)
        return member.model_copy(update={"children": children}), ""

    def _encryption(self, ref: ImageRef) -> _Encryption:
        try:
            return _Encryption(records=self._records(ref))
        except UNREADABLE as error:
            return _Encryption(unreadable=str(error))

    def _records(self, ref: ImageRef) -> tuple[EncryptionRecord, ...]:
        records = list_encryption_records(self.evidence.read_verified(ref, TierName.CURATION, ENCRYPTION))
        return tuple(each.value for each in records)

    def copies(self, ref: ImageRef) -> tuple[ImageRef, ...]:
        """Return the encrypted copies of an image, by what curation signed."""
        return _list_copies(ref, self._records(ref))

    def list_indexes(self, ref: ImageRef) -> tuple[ImageRef, ...]:
        """Return the indexes in an image's repository that can be pulled and list it; unreadable ones are left out.

        They are read from the registry alone, because anyone with push access can create them.
        """
        listed = (each for each in self.images.images(ref.repository) if each.media_type in INDEXES)
        indexes = [ref.with_digest(each.digest) for each in listed if each.status is StorageStatus.ACTIVE]
        return tuple(each for each in indexes if ref.digest in self._children(each))

    def _children(self, index: ImageRef) -> frozenset[Digest]:
        try:
            return frozenset(each["digest"] for each in self.manifests.manifest(index).get("manifests") or ())
        except (ImageNotFound, *UNREADABLE, KeyError, TypeError):
            return frozenset()

    def deployments(self, application: str | None) -> tuple[PastDeployment, ...]:
        """Return all deployments by the records that execution signed."""
        history = read_history(self.images, self.manifests, self.evidence, application)
        return tuple(
            PastDeployment(
                environment=each.value.environment,
                application=each.value.application,
                digest=each.value.digest,
                proxy=each.value.proxy,
                at=each.at,
                address=each.value.url,
            )
            for each in history
        )

    def proxies(self) -> dict[Digest, tuple[str, ...]]:
        """Return the reverse proxy images that the next deployments use, each with the environments that name it."""
        on_hosts = [each for each in self.environments() if isinstance(each, DockerEnvironment)]
        named = [(each.proxy, each.name) for each in on_hosts if each.proxy]
        return {digest: tuple(name for of, name in named if of == digest) for digest, _ in sorted(named)}

    def find_image_status(self, ref: ImageRef) -> ImageStatus:
        """Return the status of an image: its blocks and holds."""
        return compute_image_status(read_image_status(ref, self.evidence).evidence)

    def summarize_evidence(self, ref: ImageRef, stored: StoredManifest) -> EvidenceSummary:
        """Return what signed evidence says of an image now."""
        return EvidenceSummary.of(read_image(ref, stored, self.evidence, lambda environment: "")[0])

    def bases(self) -> frozenset[Digest]:
        """Return the bases that the existing images are built on, by their builders' provenance."""
        images = [
            ImageRef(repository=repository, digest=stored.digest)
            for repository in self.images.repositories(CURATED)
            for stored in self.images.images(repository)
            if stored.subject is None
        ]
        evidence = replace(self.evidence, wide=1)  # many images are read in parallel, one referrer of each at a time
        read = map_concurrently(lambda ref: evidence.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE), images)
        built = (find_last_provenance(each) for each in read)
        return frozenset(digest for each in built if each for digest, _ in each.materials)

    def read_snapshot(self, images: tuple[FleetImage, ...], now: datetime) -> RepositorySnapshot:
        """Return the facts for a plan about these images.

        An image whose status cannot be read is returned as unreadable. So is an image whose encrypted copies are
        unknown, even if the inventory does not know it.
        """
        repositories = sorted({i.ref.repository for i in images if not i.ref.repository.startswith(EVIDENCE)})
        contents = [self._members(repository) for repository in repositories]
        members = tuple(member for own, _ in contents for member in own)
        dark = {ref: why for _, unreadable in contents for ref, why in unreadable.items()}
        listed = dict.fromkeys(image.ref for image in images)
        unknown = [m for m in members if m.ref in dark and m.ref not in listed]
        missing_subjects = _missing_subjects(members)
        subjects = (*listed, *(ref for ref in missing_subjects if ref not in listed))
        statuses = dict(zip(subjects, map_concurrently(self._read_status, subjects), strict=True))
        return RepositorySnapshot(
            images=(
                *(_format_error(image, statuses[image.ref][1] or dark.get(image.ref, "")) for image in images),
                *(FleetImage(ref=m.ref, stored=m.stored, unreadable=dark[m.ref]) for m in unknown),
            ),
            members=members,
            deployments=self.deployments(None),
            proxies=self.proxies(),
            statuses={str(ref): status for ref, (status, _) in statuses.items() if status != ImageStatus()},
            unreadable={str(ref): why for ref in missing_subjects if (why := statuses[ref][1] or dark.get(ref, ""))},
            read_at=now,
        )

    def _read_status(self, ref: ImageRef) -> tuple[ImageStatus, str]:
        """Return the status of an image, or why it cannot be read."""
        try:
            return self.find_image_status(ref), ""
        except UNREADABLE as error:
            return ImageStatus(), str(error)


@dataclass(frozen=True)
class _Encryption:
    """The encryption records that curation signed for an image, or why they are unreadable; empty for a copy."""

    records: tuple[EncryptionRecord, ...] = ()
    unreadable: str = ""


def _missing_subjects(members: Iterable[Member]) -> list[ImageRef]:
    """Return the subjects that are missing although referrers to them exist."""
    existing = {member.ref: member for member in members}
    return sorted(
        {ref.with_digest(each) for ref, m in existing.items() for each in m.subjects} - existing.keys(), key=str
    )


def _list_copies(ref: ImageRef, records: Iterable[EncryptionRecord]) -> tuple[ImageRef, ...]:
    copies = [each.encrypted_copy for each in records]
    digests = {copy.encrypted for copy in copies if copy and copy.plain == ref.digest}
    return tuple(ref.with_digest(digest) for digest in sorted(digests))


def _with_possible_children(member: Member, perhaps: Iterable[Digest]) -> Member:
    """Return the member with all other possible children."""
    others = (each for each in perhaps if each != member.ref.digest)
    return member.model_copy(update={"children": (*member.children, *others), "guessed": True})


def _format_error(image: FleetImage, why: str) -> FleetImage:
    return image.model_copy(update={"unreadable": image.unreadable or why})
