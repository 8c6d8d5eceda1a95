"""Statements of others that are attached to an image."""

from __future__ import annotations

from typing import Any

from supply_chain.evidence.attached_statement import AttachedStatement, read_attached_statement
from supply_chain.evidence.envelope import parse_envelope
from supply_chain.evidence.statement import make_image_statement
from supply_chain.model.image import ImageRef
from tests.support.builders import DIGEST
from tests.support.facts import CURATED
from tests.support.present import present
from tests.support.signer import EcdsaSigner

BUILDER = "https://builds.example/hosted/v1"


def attached_statement(
    signer: EcdsaSigner, predicate_type: str, predicate: dict[str, Any], subject: ImageRef = CURATED
) -> AttachedStatement:
    """Return a signed statement, as the evidence store returns it if it is attached to the curated image."""
    envelope = present(parse_envelope(signer.sign(make_image_statement(subject, predicate_type, predicate))))
    statement = present(read_attached_statement(envelope))
    return AttachedStatement(repository=CURATED.repository, digest=DIGEST, statement=statement, envelope=envelope)


def slsa_provenance(builder: str = BUILDER) -> dict[str, Any]:
    """Return the predicate of SLSA provenance by another builder than ours."""
    return {
        "buildDefinition": {"buildType": "https://builds.example/image/v1", "externalParameters": {"ref": "main"}},
        "runDetails": {"builder": {"id": builder}},
    }
