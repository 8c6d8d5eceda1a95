"""Documents that a person signed with a key of their own: a file, and a sigstore bundle next to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, Field, ValidationError

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.envelope import Key, envelope_in
from supply_chain.evidence.statement import Statement, Subject, read_statement
from supply_chain.model.image import Model, digest_of, digest_set

SIGNED_DOCUMENT = "urn:cscm:signed-document:v1"
"""Predicate type: a person vouches for a document. The subject is the file's digest."""
SUFFIX = ".sigstore.json"
"""What the name of a bundle has after the name of its document."""
LIMIT = 64 * 1024
"""Maximum size of a bundle in bytes."""


class DocumentKind(StrEnum):
    """What a document is. A signature for one kind does not count for another."""

    PEOPLE = "people"
    WAIVER = "waiver"
    VEX = "vex"
    POLICIES = "policies"


class Signature(Model):
    """Who signed a document, and when, as they state it."""

    by: str
    at: AwareDatetime


class Unsigned(Model):
    """A document that nobody signed as it is."""

    why: str


class _Predicate(Model):
    kind: DocumentKind
    signed: AwareDatetime = Field(description="by the clock of the signer")


def signature_file(document: Path) -> Path:
    """Return the path of a document's bundle."""
    return document.with_name(document.name + SUFFIX)


def document_statement(kind: DocumentKind, name: str, content: bytes, at: datetime) -> Statement:
    """Return the in-toto statement with which a person signs a document."""
    return Statement(
        subject=(Subject(name=name, digest=digest_set(digest_of(content))),),
        predicate_type=SIGNED_DOCUMENT,
        predicate=_Predicate(kind=kind, signed=at).model_dump(mode="json"),
    )


def read_bundle(document: Path) -> bytes | None:
    """Return the bundle of a document, no more than is needed to refuse a longer one; None if there is none."""
    return read_file(signature_file(document), LIMIT)


def read_file(file: Path, limit: int) -> bytes | None:
    """Return the content of a file, at most a byte more than `limit`; None if it is no file that can be read."""
    try:
        if not file.is_file():  # a pipe or a device would never end
            return None
        with file.open("rb") as opened:
            return opened.read(limit + 1)
    except OSError:
        return None


def verify_document(
    kind: DocumentKind, name: str, content: bytes, bundle: bytes | None, keys: Mapping[str, Sequence[Key]],
    now: datetime,
) -> Signature | Unsigned:  # fmt: skip
    """Return who signed exactly this content as a document of this kind and name.

    `keys` are the public keys of each person. A time in the future is no signature: with it, a waiver could last longer
    than its signer may allow.
    """
    if bundle is None:
        return Unsigned(why="nobody signed it")
    envelope = envelope_in(bundle) if len(bundle) <= LIMIT else None
    if envelope is None:
        return Unsigned(why="its signature file is not a sigstore bundle")
    by = next((name for name, own in keys.items() if any(envelope.signed_by(key) for key in own)), None)
    if by is None:
        return Unsigned(why="no key that is trusted for it signed it")
    try:
        statement = read_statement(envelope, "the signature file")
        signed = _Predicate.model_validate(statement.predicate)
    except (EvidenceInvalid, ValidationError):
        return Unsigned(why=f"what {by} signed is not a statement about a document")
    why = next(_differences(statement, signed, document_statement(kind, name, content, now), now), None)
    return Unsigned(why=f"{by} {why}") if why else Signature(by=by, at=signed.signed)


def _differences(statement: Statement, signed: _Predicate, wanted: Statement, now: datetime) -> Iterator[str]:
    """Yield what the signer signed instead of the wanted document, now or earlier."""
    if (statement.predicate_type, signed.kind) != (wanted.predicate_type, wanted.predicate["kind"]):
        yield "signed it as another kind of document"
    if [each.digest for each in statement.subject] != [each.digest for each in wanted.subject]:
        yield "signed other content; it was changed since"
    if statement.subject != wanted.subject:
        yield "signed it under another name"
    if signed.signed > now + SKEW:
        yield f"signed it at {signed.signed:%Y-%m-%d %H:%M} UTC, which is in the future"
