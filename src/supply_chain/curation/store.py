"""The step that copies an admitted candidate, by digest and without the engine, to curation's repository."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import ImageDamaged, SettingInvalid
from supply_chain.evidence.reading import make_proof
from supply_chain.evidence.statement import SUMMARY
from supply_chain.evidence.store import EvidenceStore, ReferrerLister
from supply_chain.evidence.summary import find_last_verdict
from supply_chain.model.image import Descriptor, Digest, ImageRef, StoredImage, list_blobs
from supply_chain.model.registry_ports import ManifestReader, RepositoryCreator
from supply_chain.model.tier import Gate, TierName, name_curated_repository
from supply_chain.policy.facts import IntakeFacts
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.verdict import record

IMAGE = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types of an image's manifest. A manifest that could also be read as an index is not one image."""


class Copier(Protocol):
    """Copies images between repositories, layer by layer, keeping the digest."""

    def copy(self, source: ImageRef, repository: str, tag: str) -> None:
        """Copy an image to a repository, under a tag."""


class CuratedRegistry(ManifestReader, ReferrerLister, Protocol):
    """Reads the registry after the copy, and copies referrers."""

    def verify_blob(self, repository: str, digest: Digest, size: int) -> None:
        """Read a blob, and verify its size in bytes and its digest; raise `ImageDamaged` if they differ."""

    def copy_referrer(self, referrer: ImageRef, repository: str) -> None:
        """Copy a referrer to the same subject in another repository."""

    def digest_of(self, repository: str, tag: str) -> Digest | None:
        """Return the digest of a tag; None if there is no such tag."""


class CuratedRepositories(RepositoryCreator, Protocol):
    """Creates repositories and reads their settings."""

    def is_immutable(self, repository: str) -> bool:
        """Return whether no tag in the repository can move."""


def store(
    admitted: Admitted[IntakeFacts],
    copier: Copier,
    registry: CuratedRegistry,
    repositories: CuratedRepositories,
    evidence: EvidenceStore,
    *,
    storage_key: str,
    now: Callable[[], datetime],
    force: bool = False,
) -> StoredImage:
    """Copy image and evidence, verify every byte, and attach the intake gate's verdict.

    The tag is `<revision>-<first 12 of the digest>` and never has to move. The verdict states that every byte was
    verified: if there is one already, the bytes are not read again unless `force` is true.

    A push restores an archived image. If the image was blocked in the meantime, the next gate refuses it and the
    lifecycle archives it again; curation's role may not archive.

    Raises `ImageDamaged` if the candidate is not one image or a byte is wrong, and `SettingInvalid` if the repository
    existed before and its tags can move.
    """
    facts, source = admitted.facts, admitted.provenance.source
    ref = facts.ref.with_repository(name_curated_repository(facts.ref.application))
    tag = f"{source.short}-{ref.short}"
    _ensure_immutable(ref.repository, repositories, storage_key)
    is_stored = registry.digest_of(ref.repository, tag) == ref.digest
    if not is_stored:
        read_blobs(facts.ref, registry)  # refuse before the copy, which would also restore what is archived
        copier.copy(facts.ref, ref.repository, tag)
    before = find_last_verdict(evidence.read_verified(ref, TierName.CURATION, SUMMARY), Gate.INTAKE, ref.digest)
    proven = make_proof([before.evidence]) if before and before.value.passed and is_stored and not force else None
    blobs = read_blobs(ref, registry)
    if proven is None:
        map_concurrently(lambda blob: registry.verify_blob(ref.repository, blob.digest, blob.size), blobs)
    map_concurrently(
        lambda digest: registry.copy_referrer(facts.ref.with_digest(digest), ref.repository),
        _find_missing(facts, ref, registry),
    )
    record(admitted, facts, evidence, now())
    return StoredImage(
        ref=ref,
        tag=tag,
        source=source,
        blobs=len(blobs),
        size=sum(blob.size for blob in blobs),
        proven=proven,
    )


def _ensure_immutable(repository: str, repositories: CuratedRepositories, storage_key: str) -> None:
    repositories.ensure_repository(repository, immutable=True, key=storage_key)
    if not repositories.is_immutable(repository):
        raise SettingInvalid(
            f"Tags can move in the repository {repository}, which was there before.\n"
            "Make them immutable, without exceptions: `aws ecr put-image-tag-mutability "
            f"--repository-name {repository} --image-tag-mutability IMMUTABLE`."
        )


def _find_missing(facts: IntakeFacts, ref: ImageRef, registry: CuratedRegistry) -> Sequence[Digest]:
    """Return the digests of development's evidence that is not attached to `ref` yet."""
    present = {each.digest for each in registry.referrers(ref)}
    evidence = (each.digest for each in facts.evidence if each.signer is TierName.DEVELOPMENT)
    return [digest for digest in evidence if digest not in present]


def read_blobs(ref: ImageRef, registry: CuratedRegistry) -> tuple[Descriptor, ...]:
    """Return the blobs of an image, as its manifest in the registry lists them.

    Raises `ImageDamaged` unless the manifest is that of one image.
    """
    manifest = registry.manifest(ref)
    if "layers" not in manifest or "manifests" in manifest or manifest.get("mediaType", IMAGE[0]) not in IMAGE:
        raise ImageDamaged(f"{ref} is an index of several images.\nBuild for one platform; one digest is one image.")
    if "subject" in manifest:  # registries list it as a referrer of that subject, not as an image
        raise ImageDamaged(f"{ref} calls itself attached to another image.\nPush it without a subject.")
    return list_blobs(manifest, ref)
