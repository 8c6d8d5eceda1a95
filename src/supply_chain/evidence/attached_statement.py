"""Statements of others that are attached to images, as cosign attaches them: VEX documents and SLSA provenance.

Issuers and builders sign them, not tiers. Whose signature counts is decided where the people document is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from supply_chain.evidence.envelope import Envelope, Key
from supply_chain.evidence.statement import (
    PAYLOAD,
    PROVENANCE,
    STATEMENT,
    Foreign,
    LocatedStatement,
    Statement,
    Subject,
)

OPENVEX = "https://openvex.dev/ns"
"""Predicate type of an OpenVEX document: cosign's `--type openvex`."""
CSAF = "https://docs.oasis-open.org/csaf/csaf/v2.0/csaf_json_schema.json"
"""Predicate type of a CSAF document, its JSON Schema: cosign's `--type` takes any URI."""
VEX_TYPES = (OPENVEX, f"{OPENVEX}/v0.2.0", CSAF)
"""The predicate types under which VEX documents are attached."""
TYPES = (*VEX_TYPES, PROVENANCE)
"""The predicate types of statements that others attach: cosign's `--type slsaprovenance1` is the last one."""
MOST_PAYLOAD = 256 * 1024
"""Maximum size of such a statement in bytes."""


class AttachedStatement(LocatedStatement):
    """A statement about an image that no tier signed; whether somebody did who may is open."""

    envelope: Envelope

    def is_signed_by(self, key: Key) -> bool:
        """Return whether the holder of a key signed the statement."""
        return self.envelope.is_signed_by(key)

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest[:19]}"


class _AnyStatement(Foreign):
    """An in-toto statement of either version; cosign writes 0.1."""

    type: Literal["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str
    predicate: dict[str, Any]


def find_vex_type(document: Mapping[str, Any]) -> str:
    """Return the predicate type under which a valid document is attached."""
    return OPENVEX if "@context" in document else CSAF


def read_attached_statement(envelope: Envelope) -> Statement | None:
    """Return the statement in an envelope if others may attach one of its type; None for any other content.

    This does not verify the signature.
    """
    if envelope.payload_type != PAYLOAD or len(envelope.payload) > MOST_PAYLOAD:
        return None
    try:
        statement = _AnyStatement.model_validate_json(envelope.payload)
    except ValidationError:
        return None
    if statement.predicate_type not in TYPES:
        return None
    return Statement(
        type=STATEMENT,
        subject=statement.subject,
        predicate_type=statement.predicate_type,
        predicate=statement.predicate,
    )
