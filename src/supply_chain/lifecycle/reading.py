"""What a plan looks at, read from the registry and from signed evidence."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from supply_chain.concurrency import side_by_side
from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.encryption import encryption_records
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
        """Every manifest of a repository and what belongs to what; of an archived one as far as evidence says it."""
        stored = self.images.images(repository)
        read = side_by_side(lambda each: self._member(repository, each), stored)
        copies = self._copies(m for m in read if m.subject is None)
        return tuple(m.model_copy(update={"copy_of": copies.get(m.ref.digest)}) for m in read)

    def _member(self, repository: str, stored: StoredManifest) -> Member:
        ref = ImageRef(repository=repository, digest=stored.digest)
        children: tuple[Digest, ...] = ()
        if stored.media_type in INDEXES and stored.status is StorageStatus.ACTIVE:  # nobody can read an archived one
            children = tuple(each["digest"] for each in self.manifests.manifest(ref).get("manifests") or ())
        return Member(ref=ref, stored=stored, subject=stored.subject, children=children)

    def _copies(self, images: Iterable[Member]) -> dict[Digest, Digest]:
        """Encrypted copy → the image it is of, by what curation signed."""
        refs = [member.ref for member in images]
        read = side_by_side(self.copies, refs)
        return {copy.digest: ref.digest for ref, copies in zip(refs, read, strict=True) for copy in copies}

    def copies(self, ref: ImageRef) -> tuple[ImageRef, ...]:
        """The encrypted copies of an image, by what curation signed."""
        records = encryption_records(self.evidence.verified(ref, TierName.CURATION, ENCRYPTION))
        copies = [each.value.encrypted_copy for each in records]
        digests = {copy.encrypted for copy in copies if copy and copy.plain == ref.digest}
        return tuple(ref.model_copy(update={"digest": digest}) for digest in sorted(digests))

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

    def bases(self, but: Collection[ImageRef]) -> frozenset[Digest]:
        """On which bases the images are built that are there, but for these, by what their builders signed."""
        there = [
            ref
            for repository in self.images.repositories(CURATED)
            for stored in self.images.images(repository)
            if stored.subject is None and (ref := ImageRef(repository=repository, digest=stored.digest)) not in but
        ]
        evidence = replace(self.evidence, wide=1)  # many images are read at a time, and one piece of each
        read = side_by_side(lambda ref: evidence.verified(ref, TierName.DEVELOPMENT, PROVENANCE), there)
        built = (last_provenance(each) for each in read)
        return frozenset(digest for each in built if each for digest, _ in each.curated)

    def stock(self, images: tuple[KnownImage, ...], now: datetime) -> Stock:
        """Everything that a plan about these images looks at."""
        repositories = sorted({i.ref.repository for i in images if not i.ref.repository.startswith(EVIDENCE)})
        read = side_by_side(self._with_standing, images)
        return Stock(
            images=tuple(image for image, _ in read),
            members=tuple(member for repository in repositories for member in self.members(repository)),
            deployments=self.deployments(None),
            standings={str(image.ref): stands for image, stands in read if stands != Standing()},
            read_at=now,
        )

    def _with_standing(self, image: KnownImage) -> tuple[KnownImage, Standing]:
        """An image and how it stands; one of which that cannot be read is kept as what cannot be read."""
        try:
            return image, self.standing(image.ref)
        except EvidenceInvalid as error:
            return image.model_copy(update={"unreadable": image.unreadable or str(error)}), Standing()
