"""Statements of others: which are taken for a VEX document or provenance, whoever signed them."""

import json

import pytest

from supply_chain.evidence.attached_statement import (
    CSAF,
    OPENVEX,
    TYPES,
    AttachedStatement,
    find_vex_type,
    read_attached_statement,
)
from supply_chain.evidence.envelope import parse_envelope, parse_keys
from supply_chain.evidence.statement import SIGNATURE, STATEMENT, make_image_statement
from tests.support.builders import DIGEST
from tests.support.facts import CURATED
from tests.support.present import present
from tests.support.signer import EcdsaSigner
from tests.support.vex import csaf, openvex

OLDER = "https://in-toto.io/Statement/v0.1"


def envelope(payload=b"", signer=None, **changes):
    statement = {**make_image_statement(CURATED, OPENVEX, openvex()).model_dump(mode="json", by_alias=True), **changes}
    content = payload or json.dumps(statement).encode()
    return present(parse_envelope((signer or EcdsaSigner()).sign_bytes(content)))


@pytest.mark.parametrize("version", [STATEMENT, OLDER])
@pytest.mark.parametrize("kind", TYPES)
def test_document_is_read_from_either_version_of_a_statement(version, kind):
    """cosign writes version 0.1, and vexctl may write the version of OpenVEX."""
    found = present(read_attached_statement(envelope(_type=version, predicateType=kind)))

    assert (found.type, found.predicate_type, found.predicate) == (STATEMENT, kind, openvex())
    assert found.subject[0].digest == {"sha256": DIGEST.removeprefix("sha256:")}


def test_document_is_attached_under_the_type_of_its_format():
    """cosign asks for a document by its type."""
    assert (find_vex_type(openvex()), find_vex_type(csaf())) == (OPENVEX, CSAF)
    assert read_attached_statement(envelope(predicateType=CSAF, predicate=csaf())) is not None


@pytest.mark.parametrize(
    "other",
    [
        envelope(b"no statement"),
        envelope(predicateType=SIGNATURE),
        envelope(_type="https://in-toto.io/Statement/v2"),
        envelope(subject=[]),
        present(
            parse_envelope(
                EcdsaSigner().sign_bytes(make_image_statement(CURATED, OPENVEX, openvex()).bytes(), "text/plain")
            )
        ),
    ],
    ids=["no statement", "another type", "another version", "no subject", "another payload"],
)
def test_other_content_is_no_document(other):
    """Anybody can attach anything."""
    assert read_attached_statement(other) is None


def test_document_has_a_maximum_size():
    """Many of them are in memory at once."""
    padded = make_image_statement(CURATED, OPENVEX, openvex()).bytes()
    at_most, more = (padded + b" " * (size - len(padded)) for size in (262_144, 262_145))

    assert read_attached_statement(envelope(at_most)) is not None
    assert read_attached_statement(envelope(more)) is None


def test_attached_document_knows_its_signer_and_place():
    """The key decides, and the short digest names it in sentences."""
    own, other = EcdsaSigner(), EcdsaSigner()
    attached = AttachedStatement(
        repository="curated/hello",
        digest=DIGEST,
        statement=make_image_statement(CURATED, OPENVEX, {}),
        envelope=envelope(signer=own),
    )

    assert [attached.is_signed_by(*parse_keys(each.public, "x")) for each in (own, other)] == [True, False]
    assert str(attached) == f"curated/hello@{DIGEST[:19]}"
