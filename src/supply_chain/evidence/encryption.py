"""What curation says about an image's encryption; written by `encrypt`, read before a confidential start."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, field_validator

from supply_chain.evidence.reading import Said, said
from supply_chain.evidence.statement import ENCRYPTION, Evidence
from supply_chain.model.image import Digest, Frozen
from supply_chain.model.manifest import Classification


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
    verified: AwareDatetime = Field(description="when all this was so")

    def predicate(self) -> dict[str, Any]:
        """As it is signed; the copy is under `copy`."""
        return self.model_dump(mode="json", by_alias=True)

    def says_the_same_as(self, other: EncryptionRecord) -> bool:
        """Whether both say the same, whenever that was."""
        return self == other.model_copy(update={"verified": self.verified})


def context_of(digest: Digest) -> dict[str, str]:
    """The KMS encryption context that binds a content key to the one image it is for."""
    return {"image": digest}


def encryption_records(evidence: Iterable[Evidence]) -> tuple[Said[EncryptionRecord], ...]:
    """The encryption records among verified evidence, the oldest first; `EvidenceInvalid` for an unreadable one."""
    return said(evidence, ENCRYPTION, EncryptionRecord.model_validate)
