"""What curation says about an image's encryption; written by `encrypt`, read before a confidential start."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator

from supply_chain.app import Classification
from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import ENCRYPTION, UNREADABLE, Evidence
from supply_chain.image import Digest, Frozen


class EncryptedCopy(Frozen):
    """The encrypted copy of a confidential image, in the image's own repository, and what opens it."""

    plain: Digest = Field(description="the image that is signed")
    encrypted: Digest = Field(description="its copy, every layer encrypted")
    protocol: Literal["jwe"] = Field(default="jwe", description="the recipient protocol (ocicrypt)")
    wrapped_key: str = Field(description="the copy's private key (PKCS #8, DER), wrapped by KMS, in base64")
    key: str = Field(description="ARN of the KMS key that wrapped it")
    context: dict[str, str] = Field(description="the KMS encryption context it is bound to")

    @field_validator("wrapped_key")
    @classmethod
    def _base64(cls, value: str) -> str:
        base64.b64decode(value, validate=True)
        return value

    @property
    def wrapped(self) -> bytes:
        """What KMS unwraps."""
        return base64.b64decode(self.wrapped_key)


class EncryptionRecord(Frozen):
    """The predicate of `statement.ENCRYPTION`."""

    model_config = ConfigDict(populate_by_name=True)

    repository: str
    type: Literal["KMS"] = Field(description="ECR's encryption type of the repository")
    key: str = Field(description="ARN of the customer-managed key it is encrypted with")
    rotates: Literal[True] = Field(description="KMS rotates that key every year")
    classification: Classification
    encrypted_copy: EncryptedCopy | None = Field(default=None, alias="copy")

    def predicate(self) -> dict[str, Any]:
        """As it is signed; the copy is under `copy`."""
        return self.model_dump(mode="json", by_alias=True)


def context_of(digest: Digest) -> dict[str, str]:
    """The KMS encryption context that binds a content key to the one image it is for."""
    return {"image": digest}


def encryption_records(evidence: Iterable[Evidence]) -> tuple[EncryptionRecord, ...]:
    """The encryption records among verified evidence, in its order; `EvidenceInvalid` for an unreadable one."""
    found = [e for e in evidence if e.predicate_type == ENCRYPTION]
    return tuple(_read(e) for e in found)


def _read(evidence: Evidence) -> EncryptionRecord:
    try:
        return EncryptionRecord.model_validate(evidence.predicate)
    except ValidationError as error:
        raise EvidenceInvalid(
            f"{evidence.repository}@{evidence.digest} is signed by {evidence.signer} but is no record of encryption: "
            f"{error.errors()[0]['msg']}\n{UNREADABLE}"
        ) from error
