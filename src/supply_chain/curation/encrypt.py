"""The step that verifies encryption at rest and writes an encrypted copy of a confidential image."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from pydantic import Field

from supply_chain.errors import KeyUnusable
from supply_chain.evidence.encryption import (
    EncryptedCopy,
    EncryptionRecord,
    KeyUnwrapper,
    KeyWrapper,
    list_encryption_records,
    make_encryption_context,
)
from supply_chain.evidence.reading import SignedValue, make_proof
from supply_chain.evidence.statement import ENCRYPTION
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.declaration import Base, Classification, Service
from supply_chain.model.image import ENCRYPTED, Digest, EncryptedImage, ImageRef, Model, Proof, StoredImage
from supply_chain.model.tier import TierName


class KeyState(Model):
    """The state of a key in KMS."""

    arn: str
    enabled: bool
    customer_managed: bool
    rotates: bool | None = Field(description="whether KMS rotates it every year; None where that was not asked")


class KeyStore(KeyWrapper, KeyUnwrapper, Protocol):
    """A store of keys that never leave it."""

    def state(self, key: str, *, rotation: bool = True) -> KeyState:
        """Return the state of a key, given by id, ARN or alias.

        Raises `KeyUnusable` if there is no such key, or `AccessDenied`.
        """


class RepositoryEncryption(Protocol):
    """Reads how repositories are encrypted at rest."""

    def encryption(self, repository: str) -> tuple[str, str | None]:
        """Return `KMS` or another type, and the ARN, id or alias of the key."""


class Encryptor(Protocol):
    """Writes and recognizes encrypted copies."""

    def generate_key(self) -> bytes:
        """Return a new private key for one image: PKCS #8, DER, at most 4096 bytes."""

    def encrypt(self, image: ImageRef, tag: str, key: bytes, announce: Callable[[Digest], object]) -> Digest:
        """Write an encrypted copy, which `key` opens, to the image's repository, and return its digest.

        The tag of the copy begins with `tag`. Before the copy is written, it is decrypted and compared with the image's
        layers; then `announce` is called with its digest. If `announce` raises, nothing is written.
        """

    def is_encrypted(self, copy: ImageRef) -> bool:
        """Return whether the registry has this manifest and every layer of it is encrypted."""


def encrypt(
    stored: StoredImage,
    declaration: Service | Base,
    keys: KeyStore,
    repositories: RepositoryEncryption,
    encryptor: Encryptor,
    evidence: EvidenceStore,
    *,
    storage_key: str,
    content_key: str | None,
    now: Callable[[], datetime],
    force: bool = False,
) -> EncryptedImage:
    """Verify encryption at rest, write the encrypted copy of a confidential image, and attest both.

    `storage_key` and `content_key` are ids, ARNs or aliases; the second is needed only for confidential images. The
    keys are checked every time. What is already attested is not done again unless `force` is true. Raises `KeyUnusable`
    if the repository or a key does not meet the requirements; in that case nothing is written.
    """
    key = verify_at_rest(stored.ref.repository, keys, repositories, storage_key)
    own = () if force else evidence.read_verified(stored.ref, TierName.CURATION, ENCRYPTION)
    attested = list_encryption_records(own)

    def attest(copy: EncryptedCopy | None) -> Proof | None:
        record = EncryptionRecord(
            repository=stored.ref.repository,
            type="KMS",
            key=key,
            rotates=True,
            classification=declaration.classification,
            encrypted_copy=copy,
            verified=now(),
        )
        if attested and attested[-1].value.has_same_content(record):
            return make_proof([attested[-1].evidence])
        evidence.attach(stored.ref, ENCRYPTION, record.predicate(), record.verified)
        return None

    if declaration.classification is not Classification.CONFIDENTIAL:
        return EncryptedImage(stored=stored, key=key, proven=attest(None))
    content = verify_content_key(keys, content_key)
    copy = find_existing_copy(stored.ref, attested, content, encryptor)
    if copy is None:
        written = write_new_copy(stored, content, keys, encryptor, attest)
        return EncryptedImage(stored=stored, key=key, copy_digest=written)
    return EncryptedImage(stored=stored, key=key, copy_digest=copy.encrypted, proven=attest(copy))


def verify_at_rest(repository: str, keys: KeyStore, repositories: RepositoryEncryption, storage_key: str) -> str:
    """Return the ARN of the tier's key, after a check that the repository is encrypted with it.

    Raises `KeyUnusable` if it is not, or if the key is not customer-managed, not enabled or not rotated.
    """
    kind, key = repositories.encryption(repository)
    if kind != "KMS" or key is None:
        raise KeyUnusable(
            f"{repository} is encrypted with {kind}, not with the tier's KMS key {storage_key}.\n"
            "A repository's encryption cannot be changed: move its images, delete it, and run the step again."
        )
    storage = keys.state(storage_key)
    if key != storage.arn and (":key/" in key or keys.state(key, rotation=False).arn != storage.arn):
        raise KeyUnusable(
            f"{repository} is encrypted with another key ({key}) than the tier's ({storage.arn}).\n"
            "Name that key as the tier's storage key if it is the right one; "
            "otherwise delete the repository and run the step again."
        )
    _check_key(storage, "storage key")
    if not storage.rotates:
        raise KeyUnusable(
            f"KMS does not rotate the storage key {storage.arn}.\n"
            f"Turn rotation on: aws kms enable-key-rotation --key-id {storage.arn}"
        )
    return storage.arn


def verify_content_key(keys: KeyStore, content_key: str | None) -> str:
    """Return the ARN of the key that wraps the keys of confidential images.

    Raises `KeyUnusable` if the tier has none, or if it is not customer-managed or not enabled.
    """
    if content_key is None:
        raise KeyUnusable(
            "The image is confidential, and the tier has no content key to wrap its key with.\n"
            "Name a symmetric customer-managed KMS key as `content_key` in the curation tier's block."
        )
    state = keys.state(content_key, rotation=False)
    _check_key(state, "content key")
    return state.arn


def _check_key(key: KeyState, role: str) -> None:
    if not key.customer_managed:
        raise KeyUnusable(
            f"The {role} {key.arn} belongs to AWS; you can neither disable it nor set its policy.\n"
            "Create a customer-managed key and name it in the tier's block."
        )
    if not key.enabled:
        raise KeyUnusable(
            f"The {role} {key.arn} is not enabled.\n"
            f"Enable it (aws kms enable-key --key-id {key.arn}), or name another one in the tier's block."
        )


def find_existing_copy(
    image: ImageRef, attested: Sequence[SignedValue[EncryptionRecord]], content_key: str, encryptor: Encryptor
) -> EncryptedCopy | None:
    """Return the newest attested copy of this image under this content key that the registry still has.

    Returns None if there is none.
    """
    for copy in (record.value.encrypted_copy for record in reversed(attested)):
        if copy is None or (copy.plain, copy.key, copy.context) != (
            image.digest,
            content_key,
            make_encryption_context(image.digest),
        ):
            continue
        if encryptor.is_encrypted(image.with_digest(copy.encrypted)):
            return copy
    return None


def write_new_copy(
    stored: StoredImage,
    content_key: str,
    keys: KeyStore,
    encryptor: Encryptor,
    attest: Callable[[EncryptedCopy], object],
) -> Digest:
    """Write a new encrypted copy, and return its digest.

    The copy is attested with its wrapped key before it is written. Therefore an interruption never leaves a copy that
    nobody can decrypt.
    """
    image, key = stored.ref, encryptor.generate_key()
    context = make_encryption_context(image.digest)
    wrapped = base64.b64encode(keys.wrap(content_key, key, context)).decode()

    def announce(digest: Digest) -> None:
        attest(
            EncryptedCopy(plain=image.digest, encrypted=digest, wrapped_key=wrapped, key=content_key, context=context)
        )

    return encryptor.encrypt(image, f"{stored.tag}{ENCRYPTED}", key, announce)
