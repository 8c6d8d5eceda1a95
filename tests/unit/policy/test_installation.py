"""Signatures of people count in the installation for which they signed: what is copied to another one does not."""

import base64
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.image_status import Act, LifecycleDecision
from supply_chain.execution.signed_project import read_project_state
from supply_chain.policy.people import (
    FILE,
    LAPTOP,
    Installation,
    People,
    read_installation,
    read_people,
    sign_as_person,
)
from supply_chain.policy.reviews import DIRECTORY as REVIEWS
from supply_chain.policy.reviews import read_reviews
from supply_chain.policy.signed_documents import DocumentKind, locate_signature, make_document_statement
from supply_chain.policy.vex import DIRECTORY as VEX
from supply_chain.policy.vex import read_vex_documents
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from supply_chain.policy.waivers import read_waivers
from tests.support.builders import DIGEST, NOON
from tests.support.facts import CURATED
from tests.support.people import Office, copy_shipped
from tests.support.vex import openvex

HERE = "signed it for the installation test, and this is the installation production"
END = NOON.replace(hour=15)
UNSIGNED: Mapping[str, Any] = {
    "approval": Approval(
        environment="production", digest=DIGEST, decision="approved", by="ann", reason="so", decided=NOON
    ),
    "break-glass": BreakGlass(environment="production", digest=DIGEST, by="ann", reason="so", at=NOON, expires=END),
    "unblock": LifecycleDecision(act=Act.UNBLOCK, by="ann", reason="so", at=NOON, image=str(CURATED)),
}


@pytest.fixture
def test_office(tmp_path: Path) -> Office:
    """A test installation, where people signed everything."""
    roles = {"block": True, "review": True, "emails": ["ann@shop.example"]}
    office = Office(tmp_path / "test", policies=("ann",), may=roles, installation="test")
    office.issuers = {"psirt": office.bob}
    copy_shipped(office.project)
    office.write_people()
    office.waive("zlib")
    review = {"repository": "https://git.example/shop", "revision": "a" * 40, "reason": "read"}
    office.write(office.project / REVIEWS / "a.yaml", review, DocumentKind.REVIEW, None, NOON)
    document, content = office.project / VEX / "a.json", json.dumps(openvex()).encode()
    document.parent.mkdir()
    document.write_bytes(content)
    statement = make_document_statement(DocumentKind.VEX, document.name, content, office.installation, NOON)
    locate_signature(document).write_bytes(office.bob.sign(statement))
    return office


def production(office: Office) -> Office:
    """Copy everything to an installation with the same people, where the owner signed the people document."""
    copied = replace(office, project=office.project.with_name("production"), installation="production")
    shutil.copytree(office.project, copied.project)
    copied.write_people()
    return copied


def people(office: Office, **changes: Any) -> People:
    return read_people(office.project / FILE, office.people_owner._replace(**changes), NOON)


def test_documents_count_in_the_installation_for_which_they_are_signed(test_office: Office) -> None:
    """Waivers, reviews and VEX documents: their files are the same in both."""
    offices = (test_office, production(test_office))

    for each, why in zip(offices, (("", "", ""), (f"ann {HERE}", f"ann {HERE}", f"psirt {HERE}")), strict=True):
        own = people(each)
        (waiver,) = read_waivers(each.project / WAIVERS, own, {}, NOON).reports
        (review,) = read_reviews(each.project / REVIEWS, own, NOON).reports
        (vex,) = read_vex_documents(each.project / VEX, own, NOON).reports
        assert (waiver.why, review.why, vex.why) == why


@pytest.mark.parametrize("by", ["ann", "owner"])
def test_list_of_files_counts_in_the_installation_for_which_it_is_signed(test_office: Office, by: str) -> None:
    """Policies, names and environments, whoever signed them."""
    policy = test_office.project / "deployments/policies/release.yaml"
    policy.write_text(policy.read_text() + "# changed\n")
    test_office.sign_policies(getattr(test_office, by))
    copied = production(test_office)

    first, second = (read_project_state(each.project, each.people_owner, None, NOON) for each in (test_office, copied))

    assert first.active and not second.active and HERE in second.why


@pytest.mark.parametrize("people_document", ["missing", "invalid"])
def test_list_that_names_no_installation_never_counts(test_office: Office, people_document: str) -> None:
    """It is of an earlier release, and whoever can change the files can delete people.yaml."""
    policy = test_office.project / "deployments/policies/release.yaml"
    policy.write_text(policy.read_text() + "# changed\n")
    replace(test_office, installation="").sign_policies(test_office.owner)
    file = test_office.project / FILE
    file.unlink() if people_document == "missing" else file.write_text("people: {}")
    owner = test_office.people_owner

    without, with_name = (
        read_project_state(test_office.project, each, None, NOON) for each in (owner, owner._replace(installation="x"))
    )

    assert not without.active and "signed it for an installation without a name (" in without.why
    assert not with_name.active and "without a name, and this is the installation x" in with_name.why
    replace(test_office, installation="x").sign_policies(test_office.owner)
    assert read_project_state(test_office.project, owner._replace(installation="x"), None, NOON).active


@pytest.mark.parametrize("kind", UNSIGNED)
def test_decisions_count_in_the_installation_for_which_they_are_signed(test_office: Office, kind: str) -> None:
    """Also one that its person signed before signatures named an installation does not."""
    here = people(production(test_office))

    def explain(decision: Any) -> str:
        if isinstance(decision, Approval):
            return here.explain_uncounted_approval(decision, CURATED)
        if isinstance(decision, BreakGlass):
            return here.explain_uncounted_break_glass(decision, CURATED)
        return here.explain_uncounted_decision(decision, DIGEST)

    def sign(installation: str) -> Any:
        return sign_as_person(UNSIGNED[kind], CURATED, installation, test_office.ann.sign, lambda _: "")

    elsewhere = sign("test")
    assert explain(sign("production")) == ""
    assert explain(elsewhere) == f"ann {HERE}"
    assert explain(sign("")) == "ann " + HERE.replace("the installation test", "an installation without a name")
    assert "not signed" in explain(elsewhere.model_copy(update={"installation": "production"}))


def test_people_document_of_another_installation_does_not_count(test_office: Office) -> None:
    """Its owner signed both, and whoever can change the files put it back: the block names the installation."""
    copied = production(test_office)
    for each in (FILE, FILE.with_name("people.yaml.sigstore.json")):
        shutil.copy(test_office.project / each, copied.project / each)

    assert people(copied).installation == "test"
    assert people(copied, installation="production").distrusted == (
        f"deployments/people.yaml does not count: its owner {HERE}"
    )
    for distrusted in (people(copied, installation="production"), people(copied, key="", installation="production")):
        assert distrusted.installation == "production", "what the owner signs counts for no other one either"


def test_installation_is_the_one_named_by_people_document(test_office, tmp_path):
    """A laptop without one has a fixed name."""
    owner = test_office.owner.public

    assert read_installation(test_office.project, owner, NOON) == Installation("test")
    assert read_installation(tmp_path / "nowhere", owner, NOON) == Installation(LAPTOP)
    unknown = Installation("test", "the key of its owner is not known here")
    assert read_installation(test_office.project, "", NOON) == unknown
    locate_signature(test_office.project / FILE).unlink()
    unsigned = Installation("test", "nobody signed it yet")
    assert [read_installation(test_office.project, each, NOON) for each in (owner, "")] == [unsigned, unsigned]


def test_installation_needs_signature_of_owner(test_office):
    """Who may change a project has a key too."""
    test_office.write_people(signer=test_office.ann)

    assert read_installation(test_office.project, "", NOON).unverified
    with pytest.raises(DeclarationInvalid, match=r"not as its owner signed it \(no key that is trusted for it"):
        read_installation(test_office.project, test_office.owner.public, NOON)


@pytest.mark.parametrize("knows_owner", [True, False])
@pytest.mark.parametrize("forgery", ["content", "bundle", "envelope"])
def test_installation_of_changed_people_document_is_refused(test_office, forgery, knows_owner):
    """Who may change a test project would let them sign for production."""
    file = test_office.project / FILE
    bundle = locate_signature(file)
    if forgery == "content":
        file.write_text(file.read_text().replace("installation: test", "installation: production"))
    elif forgery == "bundle":
        bundle.write_bytes(b"{}")
    else:
        changed = json.loads(bundle.read_bytes())
        changed["dsseEnvelope"]["payload"] = base64.b64encode(b"{}").decode()
        bundle.write_text(json.dumps(changed))

    owner = test_office.owner.public if knows_owner else ""
    with pytest.raises(DeclarationInvalid, match=r"is not as it(s owner signed it| was signed)"):
        read_installation(test_office.project, owner, NOON)
