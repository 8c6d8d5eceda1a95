"""An issuer's VEX document is attached to an image once, and only if the gates count it."""

import json
from datetime import timedelta

import pytest

from supply_chain.curation import vex
from supply_chain.curation.vex import attach_vex
from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.attached_statement import CSAF, MOST_PAYLOAD, OPENVEX
from supply_chain.evidence.envelope import parse_envelope, parse_keys
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.tier import TierName
from supply_chain.policy.people import FILE, PeopleOwner, read_people
from supply_chain.policy.vex import read_attached_vex
from tests.support.builders import NOON
from tests.support.facts import CURATED
from tests.support.people import Office
from tests.support.present import present
from tests.support.signer import EcdsaSigner
from tests.support.vex import csaf, openvex


class Issuer:
    """Bob signs for Acme; another key is nobody's."""

    def __init__(self, project, world):
        self.office, self.world = Office(project), world
        self.office.issuers = {"acme": self.office.bob}
        self.office.write_people()
        self.people = read_people(project / FILE, self.office.people_owner, NOON)

    def attach(self, document=None, signer=None):
        content = json.dumps(document or openvex())
        sign, evidence = (signer or self.office.bob).sign, self.world.store(TierName.CURATION)
        return attach_vex(CURATED, content, sign, evidence, self.people, lambda: NOON)

    @property
    def attached(self):
        return self.world.store(TierName.EXECUTION).read(CURATED).attached


@pytest.fixture
def issuer(tmp_path, world):
    return Issuer(tmp_path, world)


@pytest.mark.parametrize(("document", "kind"), [(openvex(), OPENVEX), (csaf(), CSAF)], ids=["OpenVEX", "CSAF"])
def test_document_of_an_issuer_is_attached_as_cosign_does_it(issuer, document, kind):
    """Customers verify it with the issuer's key; the gates count its statements."""
    done = issuer.attach(document)

    assert (done.image, done.by, done.statements) == (CURATED, "acme", 1)
    assert str(done) == f"attached to {CURATED}: 1 statement, signed by acme"
    (referrer,) = issuer.world.registry.referrers(CURATED)
    assert referrer.annotations[PREDICATE] == kind
    envelope = present(parse_envelope(issuer.world.registry.content(CURATED.with_digest(referrer.digest))))
    assert envelope.is_signed_by(*parse_keys(issuer.office.bob.public, "acme"))
    statements, notes = read_attached_vex(issuer.attached, issuer.people, NOON)
    assert (len(statements), notes) == (1, ())


def test_document_is_attached_once(issuer):
    """A run that was killed afterwards is repeated; what nobody trusted signed does not count as attached."""
    stranger = EcdsaSigner()
    evidence = issuer.world.store(TierName.CURATION)
    issuer.attach(openvex(version=2))
    first = issuer.attach()

    assert issuer.attach(signer=stranger) == first and len(issuer.attached) == 2
    assert evidence.read(CURATED).attached == issuer.attached


def test_document_above_the_limit_is_not_attached(issuer, monkeypatch):
    """With one more, every gate would refuse to read what is attached to the image."""
    monkeypatch.setattr(vex, "MOST_ATTACHED", 1)
    first = issuer.attach()

    with pytest.raises(DeclarationInvalid, match="has 1 attached statements"):
        issuer.attach(openvex(version=2))
    assert issuer.attach() == first and len(issuer.attached) == 1


def test_attaching_document_without_listed_issuer_is_refused(issuer):
    """The issuer's own signature is added."""
    people, issuer.people = issuer.people, read_people(issuer.office.project / FILE, PeopleOwner(), NOON)
    with pytest.raises(DeclarationInvalid, match="names no key of the owner"):
        issuer.attach()
    issuer.people = people
    issuer.office.issuers = {"acme": issuer.office.ann}
    issuer.office.write_people()
    issuer.attach()
    issuer.people = read_people(issuer.office.project / FILE, issuer.office.people_owner, NOON)

    issuer.attach(signer=issuer.office.ann)

    assert len(issuer.attached) == 2


@pytest.mark.parametrize(
    ("document", "signer", "why"),
    [
        (openvex(), EcdsaSigner(), "The VEX document would not count: no issuer signed it.\nSign with a key that"),
        (openvex(timestamp=(NOON + timedelta(hours=1)).isoformat()), None, "which is in the future"),
        (openvex(author="x" * MOST_PAYLOAD), None, "would not count: it has more than 256 KiB."),
        (openvex(author=None), None, "The VEX document: author: Field required"),
        (csaf(version="x"), None, "The VEX document: document.tracking.version:"),
        ({"a": 1}, None, "The VEX document: neither an OpenVEX document (`@context`) nor a CSAF document"),
    ],
    ids=["nobody", "future", "large", "invalid", "invalid CSAF", "another"],
)
def test_document_that_would_not_count_is_not_attached(issuer, document, signer, why):
    """Whoever attaches it learns that now."""
    with pytest.raises(DeclarationInvalid) as raised:
        issuer.attach(document, signer)

    assert why in raised.value.message and issuer.attached == ()
