"""in-toto statements v1: what is said of an image, by whichever tier signs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.envelope import Envelope
from supply_chain.model.image import Digest, Frozen, ImageRef, Repository, application_of, digest_set
from supply_chain.model.tier import TierName

STATEMENT: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

PROVENANCE = "https://slsa.dev/provenance/v1"
"""From what, by what and when development built it, with the declaration in it. Signed by development."""
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
"""What one check found; one statement for each check. Signed by development."""
VULNERABILITIES = "https://in-toto.io/attestation/vulns/v0.2"
"""Known vulnerabilities: of the source's dependencies, signed by development; of the image, signed by curation."""
SUMMARY = "https://slsa.dev/verification_summary/v1"
"""A gate's verdict with its reasons (a VSA). Signed by curation, and at boundary 2 by execution."""
SBOM = "https://in-toto.io/attestation/reference/v0.1"
"""Digest and place of the SBOM of record: syft's own JSON, gzipped, a referrer too. Signed by curation."""
ENCRYPTION = "urn:cscm:encryption:v2"
"""The KMS key that the repository is encrypted with, and a confidential image's encrypted copy. Signed by curation."""
DEPLOYMENT = "urn:cscm:deployment:v1"
"""What runs from then on, where, and how the change went. Signed by execution."""
SOAK = "urn:cscm:soak:v1"
"""An image was well in an environment for as long as that asks for. Signed by execution."""
APPROVAL = "urn:cscm:approval:v1"
"""A person's yes or no to an image in an environment that asks for it. Signed by execution."""
LIFECYCLE = "urn:cscm:lifecycle:v1"
"""That an image is blocked or held, or no longer, or a plan approved: who, why and when. Signed by lifecycle."""
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
"""What `cosign sign` states. `cosign verify` alone accepts any other statement in its place. Signed by curation."""


class Foreign(BaseModel):
    """A foreign format, with its names: what it adds later is ignored, as in-toto's parsing rules ask."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, alias_generator=to_camel)


class Predicate(Foreign):
    """A predicate of such a format, as a model; its parts are `Foreign`."""

    def predicate(self) -> dict[str, Any]:
        """As it is signed."""
        return self.model_dump(mode="json", by_alias=True)


class Subject(Foreign):
    """What a statement is about."""

    name: str = ""
    digest: dict[str, str]


class Statement(Foreign):
    """An in-toto statement (in-toto attestation framework v1, "Statement")."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT, alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str
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


LOOK_AT_IT = (
    "It may say no, so that nothing is decided while it lies there. An administrator looks at it "
    "(`cosign tree IMAGE` lists what is attached), removes it from the registry, and the step is run again."
)
"""What to do about a statement that a tier signed and nobody can read."""


class Evidence(Frozen):
    """A statement whose signature was verified, and where it lies."""

    digest: Digest = Field(description="of the referrer's manifest")
    repository: Repository
    statement: Statement
    signer: TierName = Field(description="the tier whose key verified it")
    attached: datetime | None = Field(default=None, description="when its writer says it attached it")

    @property
    def predicate_type(self) -> str:
        return self.statement.predicate_type

    @property
    def predicate(self) -> dict[str, Any]:
        return self.statement.predicate


def read_statement(envelope: Envelope, where: str) -> Statement:
    """The statement in an envelope; `EvidenceInvalid` where there is none. `where` it lies is told.

    Reading is not verifying: ask the envelope who signed it, which is over these same bytes.
    """
    if envelope.payload_type != PAYLOAD:
        raise _unreadable(where, f"its payload is {envelope.payload_type!r}")
    try:
        return Statement.model_validate_json(envelope.payload)
    except ValidationError as error:
        raise _unreadable(where, str(error)) from error


def _unreadable(where: str, why: str) -> EvidenceInvalid:
    return EvidenceInvalid(f"A tier signed what is no statement that can be read, {where}: {why[:500]}\n{LOOK_AT_IT}")


def is_about(statement: Statement, subject: ImageRef) -> bool:
    """Whether a statement names this digest, and no other application's repository for it."""
    return any(_same(each, subject) for each in statement.subject)


def _same(named: Subject, subject: ImageRef) -> bool:
    """Same digest; and where a repository is named, one of the same application.

    cosign names none in a signature, and a host before the repository in an attestation.
    """
    algorithm, _, value = subject.digest.partition(":")
    return named.digest.get(algorithm) == value and (
        not named.name or application_of(named.name) == subject.application
    )
