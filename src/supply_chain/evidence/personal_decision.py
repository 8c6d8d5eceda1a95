"""What people decide and sign with keys of their own, inside of the statement that a tier signs."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.envelope import Key, envelope_in
from supply_chain.evidence.statement import Statement, is_about, read_statement
from supply_chain.model.image import ImageRef

PERSONAL_DECISION = "urn:cscm:personal-decision:v1"
"""Predicate type of what a person signs with a key of their own. It is part of the statement that a tier signs."""
MOST_SIGNATURE = 64 * 1024
"""Maximum number of characters of a signature."""
MOST_WORDS = 1000
"""Maximum number of characters of a text by a person."""
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MOST_WORDS)]
PersonalSignature = Annotated[str, StringConstraints(max_length=MOST_SIGNATURE)]
"""A sigstore bundle of a decision by the person's own key; empty: nobody signed it."""


def has_signed(key: Key, signature: str, wanted: Statement, image: ImageRef) -> bool:
    """Return whether the holder of a key signed exactly this statement about an image; `signature` is the bundle."""
    envelope = envelope_in(signature.encode())
    if envelope is None or not envelope.signed_by(key):
        return False
    try:
        signed = read_statement(envelope, "the signature of a decision")
    except EvidenceInvalid:
        return False
    return is_about(signed, image) and (signed.predicate_type, signed.predicate) == (
        wanted.predicate_type, wanted.predicate,
    )  # fmt: skip
