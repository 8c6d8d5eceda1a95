"""What a plan looks at, read from the registry and from signed evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from supply_chain.concurrency import side_by_side
from supply_chain.errors import UNREADABLE
from supply_chain.evidence.encryption import EncryptionRecord, encryption_records
from supply_chain.evidence.provenance import last_provenance
from supply_chain.evidence.standing import Standing, read_standing, standing
from supply_chain.evidence.statement import ENCRYPTION, PROVENANCE
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.records import history
from supply_chain.fleet.known import KnownImage
from supply_chain.fleet.reading import known
from supply_chain.image import Digest, ImageRef, StorageStatus, StoredManifest
from supply_chain.lifecycle.stock import Deployed, Evidenced, Member, Stock
from supply_chain.tier import CURATED, EVIDENCE, TierName

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class Images(Protocol):
    """What is asked of the registry."""

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        """Every manifest of a repository, archived ones too."""

    def repositories(self, prefix: str) -> tuple[str, ...]: ...

    def pushed(self, repository: str) -> tuple[tuple[Digest, datetime], ...]: ...


class Manifests(Protocol):
    """Reads manifests that can be pulled."""

    def manifest(self, ref: ImageRef) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Read:
    """What is so now, as the lifecycle sees it (`lifecycle.apply.Present`)."""

    images: Images
    manifests: Manifests
    evidence: EvidenceStore

    def members(self, repository: str) -> tuple[Member, ...]:
        """Every manifest of a repository and what belongs to what; of an archived one as far as evidence says it.

        Where nobody can tell which are an image's encrypted copies, whatever may be one counts as a part of it.
        """
        return self._members(repository)[0]

    def _members(self, repository: str) -> tuple[tuple[Member, ...], dict[ImageRef, str]]:
        """The same, and of which images their copies cannot be told, with why."""
        stored = self.images.images(repository)
        found = side_by_side(lambda each: self._member(repository, each), stored)
        read = [member for member, _ in found]
        images = [member.ref for member in read if member.subject is None]
        said = dict(zip(images, side_by_side(self._encryption, images), strict=True))
        copies = {copy.digest: ref.digest for ref, each in said.items() for copy in _copies(ref, each.records)}
        dark = {ref: each.unreadable for ref, each in said.items() if each.unreadable and ref.digest not in copies}
        dark |= {member.ref: why for member, why in found if why}
        # curation signs this of every image, and of no copy
        perhaps = tuple(ref.digest for ref, each in said.items() if each == _Encryption() and ref.digest not in copies)
        members = tuple(
            member.model_copy(
                update={
                    "copy_of": copies.get(member.ref.digest),
                    "children": (*member.children, *perhaps) if member.ref in dark else member.children,
                }
            )
            for member in read
        )
        return members, dark

    def _member(self, repository: str, stored: StoredManifest) -> tuple[Member, str]:
        """A manifest; and why it cannot be read of what it consists, where it is a damaged index."""
        ref = ImageRef(repository=repository, digest=stored.digest)
        children: tuple[Digest, ...] = ()
        why = ""
        if stored.media_type in INDEXES and stored.status is StorageStatus.ACTIVE:  # nobody can read an archived one
            try:
                children = tuple(each["digest"] for each in self.manifests.manifest(ref).get("manifests") or ())
            except UNREADABLE as error:
                why = str(error)
        return Member(ref=ref, stored=stored, subject=stored.subject, children=children), why

    def _encryption(self, ref: ImageRef) -> _Encryption:
        try:
            return _Encryption(records=self._records(ref))
        except UNREADABLE as error:
            return _Encryption(unreadable=str(error))

    def _records(self, ref: ImageRef) -> tuple[EncryptionRecord, ...]:
        records = encryption_records(self.evidence.verified(ref, TierName.CURATION, ENCRYPTION))
        return tuple(each.value for each in records)

    def copies(self, ref: ImageRef) -> tuple[ImageRef, ...]:
        """The encrypted copies of an image, by what curation signed."""
        return _copies(ref, self._records(ref))

    def deployments(self, application: str | None) -> tuple[Deployed, ...]:
        """What was ever deployed, by what execution signed."""
        found = history(self.images, self.manifests, self.evidence, application)
        return tuple(
            Deployed(
                environment=each.value.environment,
                application=each.value.application,
                digest=each.value.digest,
                proxy=each.value.proxy,
                at=each.at,
                address=each.value.url,
            )
            for each in found
        )

    def standing(self, ref: ImageRef) -> Standing:
        """How an image stands."""
        return standing(read_standing(ref, self.evidence).evidence)

    def evidenced(self, ref: ImageRef, stored: StoredManifest) -> Evidenced:
        """What signed evidence says of an image now."""
        return Evidenced.of(known(ref, stored, self.evidence, lambda environment: "")[0])

    def bases(self) -> frozenset[Digest]:
        """On which bases the images are built that are there, by what their builders signed."""
        there = [
            ImageRef(repository=repository, digest=stored.digest)
            for repository in self.images.repositories(CURATED)
            for stored in self.images.images(repository)
            if stored.subject is None
        ]
        evidence = replace(self.evidence, wide=1)  # many images are read at a time, and one piece of each
        read = side_by_side(lambda ref: evidence.verified(ref, TierName.DEVELOPMENT, PROVENANCE), there)
        built = (last_provenance(each) for each in read)
        return frozenset(digest for each in built if each for digest, _ in each.curated)

    def stock(self, images: tuple[KnownImage, ...], now: datetime) -> Stock:
        """Everything that a plan about these images looks at.

        An image of which that cannot be read is kept as what cannot be read; so is one of which nobody can tell the
        encrypted copies, whether the inventory knows it or not.
        """
        repositories = sorted({i.ref.repository for i in images if not i.ref.repository.startswith(EVIDENCE)})
        read = side_by_side(self._with_standing, images)
        found = [self._members(repository) for repository in repositories]
        members = tuple(member for there, _ in found for member in there)
        dark = {ref: why for _, untold in found for ref, why in untold.items()}
        listed = {image.ref for image in images}
        unknown = [m for m in members if m.ref in dark and m.ref not in listed]
        return Stock(
            images=(
                *(_unreadable(image, dark.get(image.ref, "")) for image, _ in read),
                *(KnownImage(ref=m.ref, stored=m.stored, unreadable=dark[m.ref]) for m in unknown),
            ),
            members=members,
            deployments=self.deployments(None),
            standings={str(image.ref): stands for image, stands in read if stands != Standing()},
            read_at=now,
        )

    def _with_standing(self, image: KnownImage) -> tuple[KnownImage, Standing]:
        try:
            return image, self.standing(image.ref)
        except UNREADABLE as error:
            return _unreadable(image, str(error)), Standing()


@dataclass(frozen=True)
class _Encryption:
    """What curation signed of an image's encryption, or why that cannot be read; of an encrypted copy neither."""

    records: tuple[EncryptionRecord, ...] = ()
    unreadable: str = ""


def _copies(ref: ImageRef, records: Iterable[EncryptionRecord]) -> tuple[ImageRef, ...]:
    copies = [each.encrypted_copy for each in records]
    digests = {copy.encrypted for copy in copies if copy and copy.plain == ref.digest}
    return tuple(ref.model_copy(update={"digest": digest}) for digest in sorted(digests))


def _unreadable(image: KnownImage, why: str) -> KnownImage:
    return image.model_copy(update={"unreadable": image.unreadable or why})
