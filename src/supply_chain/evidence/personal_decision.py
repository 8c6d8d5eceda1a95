"""What people decide and sign with credentials of their own, inside of the statement that a tier signs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import StringConstraints

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.keyless import Credential, Identity, find_identity, is_keyless, verify_content
from supply_chain.evidence.statement import Statement, is_about, make_image_statement, read_statement
from supply_chain.model.image import ImageRef

PERSONAL_DECISION = "urn:cscm:personal-decision:v1"
"""Predicate type of what a person signs. It is part of the statement that a tier signs."""
MOST_SIGNATURE = 64 * 1024
"""Maximum number of characters of a signature."""
MOST_WORDS = 1000
"""Maximum number of characters of a text by a person."""
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MOST_WORDS)]
PersonalSignature = Annotated[str, StringConstraints(max_length=MOST_SIGNATURE)]
"""A sigstore bundle of a decision by the person's own key or identity; empty: nobody signed it."""


def has_signed(credential: Credential, signature: str, decision: Statement, image: ImageRef, at: datetime) -> bool:
    """Return whether the holder of a credential signed exactly this statement about an image.

    `signature` is the bundle, and `at` the time of the decision in the statement. If the time of the signature is
    proven, both have to agree as clocks do: otherwise somebody could decide today what counts as decided last year.
    """
    signed = verify_content(signature.encode(), credential)
    if isinstance(signed, str) or (signed.at is not None and abs(signed.at - at) > SKEW):
        return False
    try:
        statement = read_statement(signed.envelope, "the signature of a decision")
    except EvidenceInvalid:
        return False
    return is_about(statement, image) and (statement.predicate_type, statement.predicate) == (
        decision.predicate_type, decision.predicate,
    )  # fmt: skip


def make_personal_statement(image: ImageRef, installation: str, decision: Mapping[str, Any]) -> Statement:
    """Return what a person signs about an image for an installation; without its name, as versions before it did."""
    bound = {"installation": installation} if installation else {}
    return make_image_statement(image, PERSONAL_DECISION, {**decision, **bound})


def explain_keyless(signature: str, credentials: Iterable[Credential]) -> str:
    """Return why a keyless signature that `has_signed` refused does not count; empty for another signature."""
    content = signature.encode()
    if not is_keyless(content):
        return ""
    identity = find_identity(content, [("", each) for each in credentials if isinstance(each, Identity)])
    return identity if isinstance(identity, str) else "it is of another decision, or of another time than this one"
