"""The record of an image's encryption: `encrypt` writes it, and it is read before a confidential image starts."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Literal, Protocol

from pydantic import AwareDatetime, ConfigDict, Field, field_validator

from supply_chain.evidence.reading import SignedValue, read_statements
from supply_chain.evidence.statement import ENCRYPTION, VerifiedStatement
from supply_chain.model.declaration import Classification
from supply_chain.model.image import Digest, Model


class KeyWrapper(Protocol):
    """Encrypts secrets with a key that never leaves its store."""

    def wrap(self, key: str, secret: bytes, context: dict[str, str]) -> bytes:
        """Encrypt up to 4 KiB, bound to `context`; raise `KeyUnusable` or `AccessDenied`."""


class KeyUnwrapper(Protocol):
    """Decrypts what a `KeyWrapper` encrypted."""

    def unwrap(self, key: str, wrapped: bytes, context: dict[str, str]) -> bytes:
        """Return the secret; raise `AccessDenied` without the grant, `KeyUnusable` for another context."""


class EncryptedCopy(Model):
    """The encrypted copy of a confidential image, with its wrapped key."""

    plain: Digest = Field(description="the image that is signed")
    encrypted: Digest = Field(description="the encrypted copy")
    protocol: Literal["jwe"] = Field(default="jwe", description="the recipient protocol (ocicrypt)")
    wrapped_key: str = Field(description="the copy's private key (PKCS #8, DER), wrapped by KMS, base64")
    key: str = Field(description="ARN of the KMS key")
    context: dict[str, str] = Field(description="the KMS encryption context")

    @field_validator("wrapped_key")
    @classmethod
    def _base64(cls, value: str) -> str:
        base64.b64decode(value, validate=True)
        return value

    @property
    def wrapped(self) -> bytes:
        """Return the wrapped key in the form that KMS unwraps."""
        return base64.b64decode(self.wrapped_key)


class EncryptionRecord(Model):
    """The predicate of `statement.ENCRYPTION`."""

    model_config = ConfigDict(populate_by_name=True)

    repository: str
    type: Literal["KMS"] = Field(description="ECR's encryption type")
    key: str = Field(description="ARN of the customer-managed key")
    rotates: Literal[True] = Field(description="KMS rotates the key every year")
    classification: Classification
    encrypted_copy: EncryptedCopy | None = Field(default=None, alias="copy")
    verified: AwareDatetime = Field(description="when this was verified")

    def predicate(self) -> dict[str, Any]:
        """Return the predicate as it is signed; the copy is under `copy`."""
        return self.model_dump(mode="json", by_alias=True)

    def has_same_content(self, other: EncryptionRecord) -> bool:
        """Return whether two records differ only in their time."""
        return self == other.model_copy(update={"verified": self.verified})


def make_encryption_context(digest: Digest) -> dict[str, str]:
    """Return the KMS encryption context that binds a content key to its one image."""
    return {"image": digest}


def list_encryption_records(evidence: Iterable[VerifiedStatement]) -> tuple[SignedValue[EncryptionRecord], ...]:
    """Return the encryption records in the evidence, oldest first; raise `EvidenceInvalid` if one is unreadable."""
    return read_statements(evidence, ENCRYPTION, EncryptionRecord.model_validate)
