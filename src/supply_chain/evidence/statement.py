"""in-toto statements v1 about images, and the predicate types that the tiers sign."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.envelope import Envelope
from supply_chain.model.image import Digest, ImageRef, Model, Repository, digest_set, parse_application_name
from supply_chain.model.tier import TierName

STATEMENT: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

PROVENANCE = "https://slsa.dev/provenance/v1"
"""How development built the image, from what and when, with the declaration. Signed by development."""
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
"""The result of one check. Signed by development."""
VULNERABILITIES = "https://in-toto.io/attestation/vulns/v0.2"
"""Known vulnerabilities of the source's dependencies, signed by development, and of the image, signed by curation."""
SUMMARY = "https://slsa.dev/verification_summary/v1"
"""The verdict of a gate with its reasons (a VSA). Signed by curation, and by execution for the deploy gate."""
SBOM = "https://in-toto.io/attestation/reference/v0.1"
"""The SBOM's digest and place: syft's JSON, gzipped, a referrer. Signed by curation."""
ENCRYPTION = "urn:cscm:encryption:v2"
"""The KMS key that encrypts the repository, and a confidential image's encrypted copy. Signed by curation."""
DEPLOYMENT = "urn:cscm:deployment:v1"
"""What runs after a deployment, where, and how the change went. Signed by execution."""
SOAK = "urn:cscm:soak:v1"
"""That an image was healthy in an environment for the required time. Signed by execution."""
APPROVAL = "urn:cscm:approval:v1"
"""A person's approval or denial of an image in an environment. Signed by execution."""
BREAK_GLASS = "urn:cscm:break-glass:v1"
"""That a person lets an image run in an environment although the deploy gate refuses it. Signed by execution."""
ISOLATION = "urn:cscm:isolation:v1"
"""An isolation: what was collected and sealed, and what runs since. Signed by execution."""
LIFECYCLE = "urn:cscm:lifecycle:v1"
"""A lifecycle decision about an image or a plan: by whom, why and when.
Signed by lifecycle."""
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
"""What `cosign sign` states. Plain `cosign verify` accepts any other statement in its place. Signed by curation."""


class Foreign(BaseModel):
    """Base model of an external format, with its field names.

    Unknown fields are ignored, as in-toto's parsing rules require.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, alias_generator=to_camel)


class Predicate(Foreign):
    """A predicate of such a format; its parts are `Foreign`."""

    def predicate(self) -> dict[str, Any]:
        """Return the predicate as it is signed."""
        return self.model_dump(mode="json", by_alias=True)


class Subject(Foreign):
    """The subject of a statement."""

    name: str = ""
    digest: dict[str, str]


class Statement(Foreign):
    """An in-toto statement (in-toto attestation framework v1, "Statement")."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT, alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str
    predicate: dict[str, Any]

    def bytes(self) -> bytes:
        """Return the bytes that are signed."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), separators=(",", ":")).encode()


def make_image_statement(subject: ImageRef, predicate_type: str, predicate: Mapping[str, Any]) -> Statement:
    """Return a statement about one image."""
    return Statement(
        subject=(Subject(name=subject.repository, digest=digest_set(subject.digest)),),
        predicate_type=predicate_type,
        predicate=dict(predicate),
    )


LOOK_AT_IT = (
    "It may be a refusal, so nothing is decided while it exists. An administrator looks at it "
    "(`cosign tree IMAGE` lists what is attached), removes it from the registry, and the step is run again."
)
"""What to do about a statement that a tier signed and that cannot be read."""


class LocatedStatement(Model):
    """A statement and its location."""

    digest: Digest = Field(description="the referrer's")
    repository: Repository
    statement: Statement

    @property
    def predicate_type(self) -> str:
        """Return the statement's predicate type."""
        return self.statement.predicate_type

    @property
    def predicate(self) -> dict[str, Any]:
        """Return the statement's predicate."""
        return self.statement.predicate


class VerifiedStatement(LocatedStatement):
    """A statement whose signature was verified, and its location."""

    signer: TierName = Field(description="the tier whose key verified it")
    attached: datetime | None = Field(default=None, description="when it was attached, according to its writer")


def read_statement(envelope: Envelope, where: str) -> Statement:
    """Return the statement in an envelope; raise `EvidenceInvalid`, with the location `where`, if there is none.

    This does not verify the signature: `Envelope.signed_by` does, over the same bytes.
    """
    if envelope.payload_type != PAYLOAD:
        raise _unreadable(where, f"its payload is {envelope.payload_type!r}")
    try:
        return Statement.model_validate_json(envelope.payload)
    except ValidationError as error:
        raise _unreadable(where, str(error)) from error


def _unreadable(where: str, why: str) -> EvidenceInvalid:
    return EvidenceInvalid(f"A tier signed a statement that cannot be read, {where}: {why[:500]}\n{LOOK_AT_IT}")


def is_about(statement: Statement, subject: ImageRef) -> bool:
    """Return whether a statement names this digest, and no repository of another application with it."""
    return any(_same(each, subject) for each in statement.subject)


def names_digest(named: Subject, digest: Digest) -> bool:
    """Return whether a subject is this digest, whatever its name."""
    algorithm, _, value = digest.partition(":")
    return named.digest.get(algorithm) == value


def _same(named: Subject, subject: ImageRef) -> bool:
    """Return whether the digest is the same and the repository, if one is named, is of the same application.

    cosign names no repository in a signature, and puts a host before the repository in an attestation.
    """
    return names_digest(named, subject.digest) and (
        not named.name or parse_application_name(named.name) == subject.application
    )
