"""in-toto statements v1, and the sigstore bundles that carry them signed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from supply_chain.errors import EvidenceInvalid
from supply_chain.image import Digest, Frozen, ImageRef, application_of, digest_set

STATEMENT: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VULNERABILITIES = "https://in-toto.io/attestation/vulns/v0.2"
SUMMARY = "https://slsa.dev/verification_summary/v1"
SBOM = "https://in-toto.io/attestation/reference/v0.1"
ENCRYPTION = "urn:cscm:encryption:v1"
DEPLOYMENT = "urn:cscm:deployment:v1"
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
"""What `cosign sign` states. `cosign verify` alone accepts any other statement in its place."""


class _Open(BaseModel):
    """A foreign format: what it adds later is ignored, as in-toto's parsing rules ask."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Subject(_Open):
    """What a statement is about."""

    name: str = ""
    digest: dict[str, str]


class Statement(_Open):
    """An in-toto statement (in-toto attestation framework v1, "Statement")."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT, alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str = Field(alias="predicateType")
    predicate: dict[str, Any]

    def bytes(self) -> bytes:
        """What is signed."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), separators=(",", ":")).encode()


def about(subject: ImageRef, predicate_type: str, predicate: Mapping[str, Any]) -> Statement:
    """A statement about one image."""
    return Statement(
        subject=(Subject(name=subject.repository, digest=digest_set(subject.digest)),),
        predicate_type=predicate_type,
        predicate=dict(predicate),
    )


class Evidence(Frozen):
    """A statement whose signature was verified, and where it lies."""

    digest: Digest = Field(description="of the referrer's manifest")
    repository: str
    statement: Statement
    signer: str = Field(description="the tier whose key verified it")
    attached: datetime | None = Field(default=None, description="when its writer says it attached it")

    @property
    def predicate_type(self) -> str:
        return self.statement.predicate_type

    @property
    def predicate(self) -> dict[str, Any]:
        return self.statement.predicate


def statement_in(bundle: bytes, subject: ImageRef) -> Statement:
    """The statement a bundle carries, if it is one about `subject`; `EvidenceInvalid` otherwise.

    Reading is not verifying: the signature is the signer's tool to check, over these same bytes.
    """
    try:
        envelope = json.loads(bundle)["dsseEnvelope"]
        if envelope["payloadType"] != PAYLOAD:
            raise EvidenceInvalid(_unreadable(subject, f"its payload is {envelope['payloadType']!r}"))
        statement = Statement.model_validate_json(base64.b64decode(envelope["payload"], validate=True))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvidenceInvalid(_unreadable(subject, str(error))) from error
    if not any(_same(each, subject) for each in statement.subject):
        raise EvidenceInvalid(_unreadable(subject, "it is about another image"))
    return statement


def _same(named: Subject, subject: ImageRef) -> bool:
    """Same digest; and where a repository is named, one of the same application.

    cosign names none in a signature, and a host before the repository in an attestation.
    """
    algorithm, _, value = subject.digest.partition(":")
    return named.digest.get(algorithm) == value and (
        not named.name or application_of(named.name) == subject.application
    )


def claimed_type(bundle: bytes) -> str | None:
    """The predicate type a bundle claims, for the tool that verifies it; None where it claims none."""
    try:
        payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"], validate=True))
        claimed = payload["predicateType"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return claimed if isinstance(claimed, str) else None


def hinted(bundle: bytes, public_key: str) -> bool:
    """Whether a bundle may be by this key: false only where it names another one.

    The hint is the SHA-256 of the key's DER (sigstore bundle 0.3, "PublicKeyIdentifier"). It saves
    asking the signing tool about every key; it is never taken for a proof.
    """
    try:
        hint = json.loads(bundle)["verificationMaterial"]["publicKey"]["hint"]
        der = base64.b64decode("".join(public_key.strip().splitlines()[1:-1]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return True
    return bool(hint == base64.b64encode(hashlib.sha256(der).digest()).decode())


def _unreadable(subject: ImageRef, why: str) -> str:
    return (
        f"A referrer of {subject} is not readable evidence: {why[:500]}\n"
        "It proves nothing. Find out who attached it; evidence that is needed has to be made again."
    )
