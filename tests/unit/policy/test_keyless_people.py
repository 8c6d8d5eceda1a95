"""People who sign keyless: whom the owner listed, under the trusted root that the owner named, when it counts."""

from datetime import timedelta

import pytest

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.image_status import Act, LifecycleDecision
from supply_chain.execution.signed_project import read_project_state
from supply_chain.policy.loading import DIRECTORY as POLICIES
from supply_chain.policy.people import FILE, TRUSTED_ROOT, PeopleDocument, read_people, read_valid_people
from supply_chain.policy.signed_documents import (
    DocumentKind,
    Keyring,
    Signature,
    make_document_statement,
    read_bundle,
    verify_document,
)
from supply_chain.policy.waivers import DIRECTORY, WaiverState, read_waivers
from tests.support.builders import DIGEST, NOON
from tests.support.facts import CURATED
from tests.support.people import Office, copy_shipped, raise_version
from tests.support.signer import EcdsaSigner
from tests.support.signing_service import ISSUER, KeylessSigner, SigningService

ANN = "ann@shop.example"
SERVICE = SigningService()


def identity(subject=ANN, **more):
    return {"issuer": ISSUER, "subject": subject, **more}


@pytest.fixture
def office(tmp_path):
    """Ann has no key."""
    may = {"keys": [], "identities": [identity()], "block": True}
    return Office(tmp_path, service=SERVICE, may=may, policies=("ann",))


def people(office):
    return read_people(office.project / FILE, office.people_owner, NOON)


def keyless(subject=ANN, service=SERVICE, at=NOON, **more):
    return KeylessSigner(service, subject, at=at, **more)


def waived(office, signer, **changes):
    office.write_people(**changes)
    office.waive("zlib", signer=signer)
    (report,) = read_waivers(office.project / DIRECTORY, people(office), {}, NOON).reports
    return report


def test_waiver_counts_if_its_signers_identity_is_listed(office):
    """As with a key."""
    report = waived(office, keyless())

    assert (report.state, report.by, report.why) == (WaiverState.ACTIVE, "ann", "")


@pytest.mark.parametrize(
    ("signer", "why"),
    [
        (keyless("eve@shop.example"), "its certificate names eve@shop.example of https://accounts.example"),
        (keyless(issuer="https://evil.example"), "its certificate names ann@shop.example of https://evil.example"),
        (keyless(service=SigningService()), "certificate chain"),
        (EcdsaSigner(), "no key that is trusted for it signed it"),
    ],
    ids=["subject", "issuer", "root", "key"],
)
def test_waiver_by_another_identity_is_inert(office, signer, why):
    """It says whom the certificate names, which is how somebody finds out that they logged in with another account."""
    report = waived(office, signer)

    assert report.state is WaiverState.INERT and why in report.why


@pytest.mark.parametrize("subject", ["a*@shop.example", ".*", "ann@shop.examp.e", "ANN@SHOP.EXAMPLE", "ann"])
def test_identity_is_no_pattern(office, subject):
    """Neither a regular expression nor another case is the same person."""
    office.may["identities"] = [identity(subject)]

    assert "not an identity of anybody" in waived(office, keyless()).why


def test_time_of_a_keyless_waiver_is_proven(office):
    """What the signer states is not used: with a later time, the waiver would last longer than they may allow."""
    file = office.write_people(), office.waive("zlib")
    statement = make_document_statement(
        DocumentKind.WAIVER, "zlib.yaml", file[1].read_bytes(), "example", NOON + timedelta(days=9)
    )
    found = verify_document(
        DocumentKind.WAIVER,
        "zlib.yaml",
        file[1].read_bytes(),
        keyless().sign(statement),
        people(office).keys,
        "example",
        NOON,
    )

    assert found == Signature(by="ann", at=NOON)


def test_document_signed_before_the_identity_counts_is_inert(office):
    """Or after it ended: whoever left signs nothing more, and what they signed before stays."""
    office.may["identities"] = [identity(since="2026-11-24T12:00:01Z")]
    assert "counts since 2026-11-24 12:00:01 UTC" in waived(office, keyless()).why
    office.may["identities"] = [identity(until="2026-11-24T12:00:00Z")]
    assert "counted until 2026-11-24 12:00:00 UTC" in waived(office, keyless()).why
    office.may["identities"] = [identity(until="2026-11-24T12:00:01Z")]
    assert waived(office, keyless()).state is WaiverState.ACTIVE


def test_keyless_signature_does_not_count_without_the_trusted_root(office):
    """Who can change the file cannot change whom the gates believe: the owner signs its digest."""
    office.write_people()
    root = office.project / TRUSTED_ROOT
    office.waive("zlib", signer=keyless())

    def why():
        (report,) = read_waivers(office.project / DIRECTORY, people(office), {}, NOON).reports
        return report.why

    root.write_bytes(SigningService().trusted_root())
    assert why() == f"{TRUSTED_ROOT} is not the one that {FILE} names (`trusted_root`)"
    root.unlink()
    assert why() == f"there is no {TRUSTED_ROOT}, which verifies keyless signatures"
    office.service = None
    office.write_people()
    assert why() == f"{FILE} names no trusted root (`trusted_root`), without which no keyless signature counts"


def test_removed_identity_signs_nothing(office):
    """Also what was verified before."""
    assert waived(office, keyless()).state is WaiverState.ACTIVE
    office.may["identities"] = [identity("anna@shop.example")]
    assert waived(office, keyless()).state is WaiverState.INERT


def test_policies_are_active_if_an_identity_with_the_role_signed_them(office):
    """As with a key; Bob has no such role."""
    copy_shipped(office.project)
    changed = office.project / POLICIES / "release.yaml"
    raise_version(changed)
    office.write_people()

    def active(signer):
        office.sign_policies(signer)
        return read_project_state(office.project, office.people_owner, None, NOON)

    assert active(keyless()).active
    assert "not an identity of anybody" in active(keyless("bob@shop.example")).why


def decisions(signer, by="ann"):
    """Return an approval, a use of break-glass and a block, each with its person's signature."""
    approval = Approval(
        environment="production",
        digest=DIGEST,
        decision="approved",
        by=by,
        reason="so",
        decided=NOON,
        installation="example",
    )
    use = BreakGlass(
        environment="production",
        digest=DIGEST,
        by=by,
        reason="so",
        at=NOON,
        expires=NOON + timedelta(hours=1),
        installation="example",
    )
    block = LifecycleDecision(act=Act.BLOCK, by=by, reason="so", at=NOON, image=str(CURATED), installation="example")
    return [
        each.model_copy(update={"signature": signer.sign(each.statement(CURATED)).decode()})
        for each in (approval, use, block)
    ]


def explained(office, signer, by="ann"):
    approval, use, block = decisions(signer, by)
    found = people(office)
    return [
        found.explain_uncounted_approval(approval, CURATED), found.explain_uncounted_break_glass(use, CURATED),
        found.explain_uncounted_decision(block, DIGEST),
    ]  # fmt: skip


def test_decisions_count_with_the_identity_of_their_person(office):
    """Approval, break-glass and block alike; Bob signs with a key, and Ann has none."""
    office.write_people()

    assert explained(office, keyless()) == ["", "", ""]
    other = "its keyless signature is not by an identity of ann in deployments/people.yaml: its certificate names "
    assert all(why.startswith(f"{other}bob@shop.example of ") for why in explained(office, keyless("bob@shop.example")))
    assert all("names ann@shop.example" in why for why in explained(office, keyless(), by="bob"))
    assert all("another time" in why for why in explained(office, keyless(at=NOON - timedelta(minutes=6))))
    assert explained(office, office.ann) == ["it is not signed with a key of ann in deployments/people.yaml"] * 3
    assert all("is not by an identity of carl" in why for why in explained(office, keyless(), by="carl"))


def test_person_has_keys_identities_or_both(office):
    """Each of them signs."""
    office.may["keys"] = [office.ann.public]
    office.write_people()

    assert explained(office, keyless()) == explained(office, office.ann) == ["", "", ""]
    with pytest.raises(ValueError, match="write at least one"):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": {"ann": {"keys": []}}})


def test_two_people_may_not_share_an_identity():
    """Also not with other times: one of them is removed first."""
    both = {
        "ann": {"identities": [identity(until=NOON), identity("a@shop.example")]},
        "bob": {"identities": [identity(since=NOON)]},
    }

    with pytest.raises(ValueError, match="ann and bob have the same key or identity"):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": both})
    both["bob"]["identities"][0]["issuer"] = "https://other.example"
    assert PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": both})


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "http://accounts.example"}, {"issuer": "https://"}, {"issuer": "https://a b"}, {"subject": ""},
        {"subject": "ann example"}, {"issuer": "https://" + "a" * 493}, {"subject": "a" * 1001},
        {"since": "2026-11-24T12:00:00"},
    ],
    ids=str,
)  # fmt: skip
def test_unusable_identity_is_refused(changes):
    """Nobody could be it, or its time is of no zone."""
    longest = identity("a" * 1000) | {"issuer": "https://" + "a" * 492}
    assert PeopleDocument.model_validate(
        {"installation": "example", "expires": NOON, "people": {"ann": {"identities": [longest]}}}
    )
    with pytest.raises(ValueError, match=next(iter(changes))):
        PeopleDocument.model_validate(
            {"installation": "example", "expires": NOON, "people": {"ann": {"identities": [identity() | changes]}}}
        )


def test_committer_is_also_known_by_an_identity(office):
    """An address that a provider verified is the person's, whatever the list of addresses says."""
    office.may["emails"] = ["ann@home.example"]
    office.write_people()
    found = people(office)

    assert found.find_independent(["ann"], ["carl@shop.example"]) == ("ann",)
    for committer in ("Ann@shop.example", "ann@home.example"):
        assert found.find_independent(["ann"], [committer]) == ()
    office.may["emails"] = []
    office.write_people()
    assert people(office).find_independent(["ann"], ["carl@shop.example"]) == ()


def test_version_of_the_people_differs_with_the_trusted_root(office):
    """What another service certified counts otherwise."""
    versions = []
    for service in (SERVICE, SERVICE, SigningService()):
        office.service = service
        office.write_people()
        versions.append(people(office).version)

    assert versions[0] == versions[1] != versions[2]


def test_keyrings_differ_with_root_and_times(office):
    """A result is used again only for the same question."""
    office.write_people()
    first = people(office).keys
    assert people(office).keys == first and hash(people(office).keys) == hash(first)
    for changes in ({"since": NOON}, {"until": NOON}, {"subject": "a"}):
        office.may["identities"] = [identity() | changes]
        office.write_people()
        assert people(office).keys != first
    assert Keyring({"bob": first["ann"], "ann": first["bob"]}) != first


def test_people_document_without_a_usable_root_is_invalid(office):
    """Whoever signs it learns that nobody in it could sign keyless."""
    file = office.write_people()
    root = office.project / TRUSTED_ROOT
    assert read_valid_people(file).people["ann"].identities

    root.write_bytes(b"{}")
    with pytest.raises(DeclarationInvalid, match="is not the one that"):
        read_valid_people(file)
    office.service = None
    office.write_people()
    with pytest.raises(DeclarationInvalid, match=r"names no trusted root.*\n.*sha256sum"):
        read_valid_people(file)
    office.may = {}
    office.write_people()
    assert read_valid_people(file), "nobody signs keyless"


def test_root_that_verifies_nothing_makes_the_document_invalid(office, monkeypatch):
    """Its digest alone does not make it a trusted root."""
    monkeypatch.setattr(SigningService, "trusted_root", lambda _: b"{}")
    file = office.write_people()
    assert read_bundle(file)

    with pytest.raises(DeclarationInvalid, match="the trusted root cannot be used"):
        read_valid_people(file)
    office.may = {}
    office.write_people()
    with pytest.raises(DeclarationInvalid, match="the trusted root cannot be used"):
        read_valid_people(file)
