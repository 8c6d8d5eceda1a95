"""encrypt: the repository is encrypted with the tier's own key, and what is confidential has an encrypted copy."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from pydantic import Field

from supply_chain.errors import KeyUnusable
from supply_chain.evidence.encryption import EncryptedCopy, EncryptionRecord, context_of, encryption_records
from supply_chain.evidence.reading import Said, proof
from supply_chain.evidence.statement import ENCRYPTION
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import ENCRYPTED, Digest, EncryptedImage, Frozen, ImageRef, Proof, StoredImage
from supply_chain.model.manifest import Base, Classification, Service
from supply_chain.model.tier import TierName


class KeyState(Frozen):
    """What KMS says of a key."""

    arn: str
    enabled: bool
    customer_managed: bool
    rotates: bool | None = Field(description="whether KMS rotates it every year; None where that was not asked")


class KeyStore(Protocol):
    """Keys that never leave where they are kept."""

    def state(self, key: str, *, rotation: bool = True) -> KeyState:
        """A key by id, ARN or alias; `KeyUnusable` if there is none, `AccessDenied`."""

    def wrap(self, key: str, secret: bytes, context: dict[str, str]) -> bytes:
        """Encrypt up to 4 KiB, bound to `context`; `KeyUnusable`, `AccessDenied`."""

    def unwrap(self, key: str, wrapped: bytes, context: dict[str, str]) -> bytes:
        """The inverse of `wrap`, with the same context."""


class RepositoryEncryption(Protocol):
    """How repositories are encrypted at rest."""

    def encryption(self, repository: str) -> tuple[str, str | None]:
        """`KMS` or another type, and the key's ARN, id or alias."""


class Encryptor(Protocol):
    """Writes and recognises encrypted copies."""

    def new_key(self) -> bytes:
        """A fresh private key for one image: PKCS #8, DER, at most 4096 bytes."""

    def encrypt(self, image: ImageRef, tag: str, key: bytes, announce: Callable[[Digest], object]) -> Digest:
        """Write a copy that `key` opens beside the image, under a tag that begins with `tag`; its digest.

        The copy was opened again before, and held exactly the image's layers. `announce` is told its digest
        before it is written; where that raises, nothing is.
        """

    def is_encrypted(self, copy: ImageRef) -> bool:
        """Whether the registry holds this manifest and every layer of it is encrypted."""


def encrypt(
    stored: StoredImage,
    manifest: Service | Base,
    keys: KeyStore,
    repositories: RepositoryEncryption,
    encryptor: Encryptor,
    evidence: EvidenceStore,
    *,
    storage_key: str,
    content_key: str | None,
    now: Callable[[], datetime],
    fresh: bool = False,
) -> EncryptedImage:
    """Verify encryption at rest, write the copy of a confidential image, and attest both.

    `storage_key` and `content_key` are ids, ARNs or aliases; the second is needed for confidential
    images only. The keys are looked at every time; what is already attested is not done again, unless it
    is to be `fresh`. Raises `KeyUnusable` where the repository or a key is not as it has to be, and then
    nothing is written.
    """
    key = verify_at_rest(stored.ref.repository, keys, repositories, storage_key)
    own = () if fresh else evidence.verified(stored.ref, TierName.CURATION, ENCRYPTION)
    known = encryption_records(own)

    def attest(copy: EncryptedCopy | None) -> Proof | None:
        record = EncryptionRecord(
            repository=stored.ref.repository,
            type="KMS",
            key=key,
            rotates=True,
            classification=manifest.classification,
            encrypted_copy=copy,
            verified=now(),
        )
        if known and known[-1].value.says_the_same_as(record):
            return proof([known[-1].evidence])
        evidence.attach(stored.ref, ENCRYPTION, record.predicate(), record.verified)
        return None

    if manifest.classification is not Classification.CONFIDENTIAL:
        return EncryptedImage(stored=stored, key=key, proven=attest(None))
    content = verify_content_key(keys, content_key)
    copy = existing_copy(stored.ref, known, content, encryptor)
    if copy is None:
        written = new_copy(stored, content, keys, encryptor, attest)
        return EncryptedImage(stored=stored, key=key, copy_digest=written)
    return EncryptedImage(stored=stored, key=key, copy_digest=copy.encrypted, proven=attest(copy))


def verify_at_rest(repository: str, keys: KeyStore, repositories: RepositoryEncryption, storage_key: str) -> str:
    """The ARN of the tier's key, if the repository is encrypted with it and it is fit; `KeyUnusable`."""
    kind, found = repositories.encryption(repository)
    if kind != "KMS" or found is None:
        raise KeyUnusable(
            f"{repository} is encrypted with {kind}, not with the tier's KMS key {storage_key}.\n"
            "A repository's encryption cannot be changed: move its images, delete it, and let `store` make it anew."
        )
    wanted = keys.state(storage_key)
    if found != wanted.arn and (":key/" in found or keys.state(found, rotation=False).arn != wanted.arn):
        raise KeyUnusable(
            f"{repository} is encrypted with another key ({found}) than the tier's ({wanted.arn}).\n"
            "Name that key as the tier's storage key if it is meant; otherwise make the repository anew."
        )
    _fit(wanted, "storage key")
    if not wanted.rotates:
        raise KeyUnusable(
            f"KMS does not rotate the storage key {wanted.arn}.\n"
            f"Turn rotation on: aws kms enable-key-rotation --key-id {wanted.arn}"
        )
    return wanted.arn


def verify_content_key(keys: KeyStore, content_key: str | None) -> str:
    """The ARN of the key that wraps confidential images' keys, if it is fit; `KeyUnusable`."""
    if content_key is None:
        raise KeyUnusable(
            "The image is confidential, and the tier has no content key to wrap its key with.\n"
            "Name a symmetric customer-managed KMS key as `content_key` in the curation tier's block."
        )
    state = keys.state(content_key, rotation=False)
    _fit(state, "content key")
    return state.arn


def _fit(key: KeyState, role: str) -> None:
    if not key.customer_managed:
        raise KeyUnusable(
            f"The {role} {key.arn} belongs to AWS; nobody here can disable it or say who may use it.\n"
            "Create a customer-managed key and name it in the tier's block."
        )
    if not key.enabled:
        raise KeyUnusable(
            f"The {role} {key.arn} is not enabled.\n"
            f"Enable it (aws kms enable-key --key-id {key.arn}), or name another one in the tier's block."
        )


def existing_copy(
    image: ImageRef, known: Sequence[Said[EncryptionRecord]], content_key: str, encryptor: Encryptor
) -> EncryptedCopy | None:
    """The newest attested copy of this image under this content key that the registry still holds."""
    for copy in (record.value.encrypted_copy for record in reversed(known)):
        if copy is None or (copy.plain, copy.key, copy.context) != (
            image.digest,
            content_key,
            context_of(image.digest),
        ):
            continue
        if encryptor.is_encrypted(image.beside(copy.encrypted)):
            return copy
    return None


def new_copy(
    stored: StoredImage,
    content_key: str,
    keys: KeyStore,
    encryptor: Encryptor,
    attest: Callable[[EncryptedCopy], object],
) -> Digest:
    """The digest of a new encrypted copy.

    It is attested with its wrapped key before it is written: wherever this is interrupted, no copy is left
    that nobody can open.
    """
    image, key = stored.ref, encryptor.new_key()
    context = context_of(image.digest)
    wrapped = base64.b64encode(keys.wrap(content_key, key, context)).decode()

    def announce(digest: Digest) -> None:
        attest(
            EncryptedCopy(plain=image.digest, encrypted=digest, wrapped_key=wrapped, key=content_key, context=context)
        )

    return encryptor.encrypt(image, f"{stored.tag}{ENCRYPTED}", key, announce)
