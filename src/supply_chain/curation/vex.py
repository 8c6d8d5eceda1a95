"""Attaches an issuer's VEX document to a curated image, where the gates and scanners of others find it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import Field

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.attached_statement import (
    MOST_PAYLOAD,
    AttachedStatement,
    find_vex_type,
    read_attached_statement,
)
from supply_chain.evidence.envelope import parse_envelope
from supply_chain.evidence.statement import Statement, make_image_statement
from supply_chain.evidence.store import MOST_ATTACHED, EvidenceStore
from supply_chain.model.image import ImageRef, Model
from supply_chain.policy.people import FILE, People
from supply_chain.policy.vex import read_attached
from supply_chain.text import pluralize
from supply_chain.vulnerability.vex.json_document import parse_json
from supply_chain.vulnerability.vex.reading import read_vex_value


class VexAttachment(Model):
    """A VEX document that is attached to an image."""

    image: ImageRef
    by: str = Field(description="the issuer that signed it")
    statements: int = Field(description="number of its statements")

    def __str__(self) -> str:
        return f"attached to {self.image}: {pluralize(self.statements, 'statement')}, signed by {self.by}"


def attach_vex(
    ref: ImageRef,
    document: str,
    sign: Callable[[Statement], bytes],
    evidence: EvidenceStore,
    people: People,
    now: Callable[[], datetime],
) -> VexAttachment:
    """Sign a VEX document as an attestation about an image with an issuer's key, and attach it.

    What is attached already is not attached again. `sign` returns a bundle with the signature of the issuer.

    Raises:
        DeclarationInvalid: it is no valid document, it would not count, or with one more no gate would read the
            image's evidence; nothing is attached then.
    """
    content: Any = parse_json(document.encode(), "The VEX document")
    count = len(read_vex_value(content, "The VEX document"))
    attached = evidence.read(ref).attached
    for each in attached:
        if each.predicate == content and (by := people.find_issuer(each.is_signed_by)):
            return VexAttachment(image=ref, by=by, statements=count)
    if len(attached) >= MOST_ATTACHED:
        raise DeclarationInvalid(
            f"{ref} has {len(attached)} attached statements of others, and with more no gate reads what is attached.\n"
            "State it in deployments/vex, or let an administrator remove documents that newer versions replaced."
        )
    predicate_type = find_vex_type(content)
    bundle = sign(make_image_statement(ref, predicate_type, content))
    by = _find_issuer(ref, bundle, people, now())
    evidence.attach_signed(ref, predicate_type, bundle, now())
    return VexAttachment(image=ref, by=by, statements=count)


def _find_issuer(ref: ImageRef, bundle: bytes, people: People, now: datetime) -> str:
    """Return the issuer that signed an attestation; raise `DeclarationInvalid` if the gates would not count it."""
    envelope = parse_envelope(bundle)
    statement = read_attached_statement(envelope) if envelope else None
    if envelope is None or statement is None:
        raise _uncounted(f"it has more than {MOST_PAYLOAD // 1024} KiB")
    attached = AttachedStatement(repository=ref.repository, digest=ref.digest, statement=statement, envelope=envelope)
    if isinstance(why := read_attached(attached, people, now), str):
        raise _uncounted(why)
    return people.find_issuer(attached.is_signed_by) or ""


def _uncounted(why: str) -> DeclarationInvalid:
    return DeclarationInvalid(
        f"The VEX document would not count: {why}.\n"
        f"Sign with a key that {FILE} has for an issuer. Nothing was attached."
    )
