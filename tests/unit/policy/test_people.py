"""People: their document counts only if its owner signed it, and each person has keys of their own."""

from contextlib import nullcontext
from datetime import timedelta

import pytest

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.policy import people as people_module
from supply_chain.policy.people import (
    FILE,
    People,
    PeopleDocument,
    PeopleOwner,
    VexSettings,
    WaiverRole,
    read_people,
    sign_as_person,
)
from supply_chain.policy.signed_documents import DocumentKind
from tests.support.builders import DIGEST, NOON, OTHER
from tests.support.facts import CURATED
from tests.support.people import Office
from tests.support.signer import EcdsaSigner


@pytest.fixture
def office(tmp_path):
    return Office(tmp_path)


def people(office, owner=None, now=NOON):
    return read_people(office.project / FILE, office.people_owner if owner is None else owner, now)


def test_people_count_if_their_owner_signed_the_document(office):
    """Their keys are ready to verify with."""
    office.write_people()
    found = people(office)

    assert (set(found.people), set(found.keys), found.distrusted) == ({"ann", "bob"}, {"ann", "bob"}, "")


def test_people_document_without_signature_of_owner_gives_no_roles(office):
    """Whoever can change the file could otherwise give themselves a role."""
    assert people(office).distrusted == "there is no deployments/people.yaml"
    file = office.write_people(signer=office.ann)
    assert "no key that is trusted" in people(office).distrusted and not people(office).people
    office.write_people()
    file.write_text(file.read_text().replace("critical", "low"))
    assert "other content" in people(office).distrusted and not people(office).keys


def test_people_document_without_key_of_owner_gives_no_roles(office):
    """An operator has to name it."""
    office.write_people()

    assert "names no key of the owner" in people(office, owner=PeopleOwner(" ")).distrusted
    assert not people(office, owner=PeopleOwner(" ")).people


def test_expired_people_document_does_not_count(office):
    """An earlier version, with the signature that it had, could otherwise come back at any time."""
    office.write_people()

    assert people(office, now=NOON + timedelta(days=300) - timedelta(seconds=1)).people
    expired = people(office, now=NOON + timedelta(days=300))
    assert "expired on 2027-" in expired.distrusted and not expired.people


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["no key"], "a key of ann is not a public key on P-256 in PEM"),
        ([], "keys or identities; write at least one"),
    ],
)
def test_person_without_a_usable_key_is_refused(keys, why):
    """The message names the person."""
    with pytest.raises(ValueError, match=why):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": {"ann": {"keys": keys}}})


def test_two_people_may_not_share_a_key():
    """Otherwise one person could be requester and signer."""
    key, other = EcdsaSigner().public, EcdsaSigner().public
    both = {"ann": {"keys": [other, key]}, "bob": {"keys": [key]}}

    with pytest.raises(ValueError, match="ann and bob have the same key or identity"):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": both})
    assert PeopleDocument.model_validate(
        {"installation": "example", "expires": NOON, "people": {"ann": {"keys": [key, key, other]}}}
    )


def test_invalid_people_document_does_not_count(office):
    """Even if the owner signed it; it stops no gate, and its mistakes are named."""
    office.write(office.project / FILE, {"people": {}}, DocumentKind.PEOPLE, office.owner, NOON)

    assert "people.yaml:1:1: expires" in people(office).distrusted and not people(office).people


def test_unsigned_people_document_is_not_parsed(office, monkeypatch):
    """Parsing a large one takes seconds, at every gate."""
    office.write_people(signer=office.bob)
    monkeypatch.setattr(people_module, "parse_document", lambda *_: pytest.fail("it is parsed"))

    assert "no key that is trusted" in people(office).distrusted


def test_owner_without_a_usable_key_is_an_error_of_the_block(office):
    """Its setting is named."""
    office.write_people()

    with pytest.raises(SettingInvalid, match="people_owner"):
        people(office, owner=PeopleOwner("no key"))


@pytest.mark.parametrize(("days", "valid"), [(0, False), (1, True), (366, True), (367, False)])
def test_term_of_a_waiver_is_a_day_to_a_year(days, valid):
    """A waiver that never ends would be a rule."""
    with nullcontext() if valid else pytest.raises(ValueError, match="days"):
        WaiverRole(days=days)


@pytest.mark.parametrize(("name", "valid"), [("a", True), ("a" * 100, True), ("a" * 101, False), ("A", False)])
def test_name_of_a_person_is_short_and_plain(name, valid):
    """It is part of verdicts and commands."""
    people = {name: {"keys": [EcdsaSigner().public]}}
    with nullcontext() if valid else pytest.raises(ValueError, match="people"):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": people})


def test_role_allows_rules_by_id_or_by_beginning():
    """A beginning ends with a dot, so that no other word is meant."""
    role = WaiverRole(rules=("scan.high", "sbom.*"), days=1)

    assert [role.allows(rule) for rule in ("scan.high", "sbom.empty")] == [True, True]
    assert not any(map(role.allows, ("scan.higher", "scan.low", "sbomx.a", "sbom")))


def approved(office, by="ann", signer=None, environment="production", **changes):
    decision = Approval(
        environment=environment,
        digest=DIGEST,
        decision="approved",
        by=by,
        reason="so",
        decided=NOON,
        **({"installation": "example"} | changes),
    )
    bundle = (signer or getattr(office, by)).sign(decision.statement(CURATED))
    return decision.model_copy(update={"signature": bundle.decode()})


def test_approvers_are_people_with_role_and_own_signature(office):
    """Each counts once; a name that somebody else signed does not count."""
    office.write_people()
    found = people(office)
    decisions = [approved(office), approved(office), approved(office, "bob"), approved(office, "carl", office.bob)]

    assert found.find_approvers(decisions, CURATED) == ("ann", "bob")
    assert found.find_approvers([approved(office, "ann", office.bob)], CURATED) == ()
    assert found.find_approvers([approved(office, environment="staging")], CURATED) == ()
    assert found.find_approvers([approved(office)], CURATED.with_digest(OTHER)) == ()
    assert People().find_approvers(decisions, CURATED) == ()


def test_uncounted_approval_has_reason(office):
    """The person is told before it is part of the evidence."""
    office.write_people()
    found = people(office)

    assert found.explain_uncounted_approval(approved(office), CURATED) == ""
    assert (
        found.explain_uncounted_approval(approved(office, environment="staging"), CURATED)
        == "ann may not approve for staging"
    )
    stranger = approved(office, "carl", office.bob)
    assert (
        found.explain_uncounted_approval(stranger, CURATED)
        == "it is not signed with a key of carl in deployments/people.yaml"
    )
    office.write_people(signer=office.bob)
    assert "does not count" in people(office).explain_uncounted_approval(approved(office), CURATED)
    assert People().explain_uncounted_approval(approved(office), CURATED).startswith("it is not signed")


@pytest.mark.parametrize(("days", "valid"), [(-1, False), (0, True), (366, True), (367, False)])
def test_investigation_counts_for_a_year_at_most(days, valid):
    """Somebody who investigates for ever states nothing."""
    settings = {"issuers": {"acme": {"keys": [EcdsaSigner().public]}}, "investigation_days": days}
    with nullcontext() if valid else pytest.raises(ValueError, match="investigation_days"):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": {}, "vex": settings})


@pytest.mark.parametrize("term", ["not_affected_days", "fixed_days"])
@pytest.mark.parametrize(("days", "valid"), [(0, False), (1, True), (366, True), (367, False)])
def test_statements_with_an_end_count_for_a_year_at_most(days, valid, term):
    """A vulnerability that nobody looks at again may affect the image by then."""
    settings = {"issuers": {"acme": {"keys": [EcdsaSigner().public]}}, term: days}
    with nullcontext() if valid else pytest.raises(ValueError, match=term):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": {}, "vex": settings})


@pytest.mark.parametrize("keys", [[], ["no key"]])
def test_issuer_without_a_usable_key_is_refused(keys):
    """Its documents would never count."""
    with pytest.raises(ValueError, match="acme"):
        PeopleDocument.model_validate(
            {"installation": "example", "expires": NOON, "people": {}, "vex": {"issuers": {"acme": {"keys": keys}}}}
        )


def test_version_of_people_differs_with_their_roles(office):
    """Facts that were read with other people are outdated."""
    versions = []
    for days in (1, 1, 2):
        office.write_people(days=days)
        versions.append(people(office).version)

    assert versions[0] == versions[1] != versions[2]
    assert "ann" in versions[0] and People().version != versions[0]


def test_investigation_counts_only_if_the_owner_says_so():
    """Without a number of days it is as if nobody investigated."""
    settings = VexSettings.model_validate({"issuers": {"acme": {"keys": [EcdsaSigner().public]}}})

    assert (settings.investigation_days, settings.not_affected_days, settings.justifications) == (0, 365, ())


def test_issuer_signs_with_any_of_its_keys():
    """A key is replaced while statements of the last one still count."""
    keys = [EcdsaSigner().private.public_key() for _ in range(3)]
    found = People(issuers={"vendor": keys[:1], "acme": keys[1:]})

    assert [found.find_issuer([own].__contains__) for own in keys] == ["vendor", "acme", "acme"]
    assert found.find_issuer([].__contains__) is None


@pytest.mark.parametrize(("length", "valid"), [(320, True), (321, False)])
def test_email_address_has_at_most_320_characters(length, valid):
    """As many as an address can have (RFC 5321, 4.5.3.1)."""
    person = {"keys": [EcdsaSigner().public], "emails": ["a" * (length - 13) + "@shop.example"]}
    with nullcontext() if valid else pytest.raises(ValueError, match="at most 320"):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": {"ann": person}})


def test_decision_is_returned_with_its_signature_if_it_counts(office):
    """Otherwise nothing is signed into the evidence, and the person learns why."""
    approval = Approval(
        environment="production",
        digest=DIGEST,
        decision="approved",
        by="ann",
        reason="so",
        decided=NOON,
        installation="example",
    )
    asked = []

    def explain(signed):
        asked.append(signed)
        return "" if len(asked) == 1 else "it is late"

    signed = sign_as_person(approval, CURATED, "example", office.ann.sign, explain)

    assert signed.is_signed_by(office.ann.private.public_key(), CURATED) and asked == [signed]
    assert signed.model_copy(update={"signature": ""}) == approval
    with pytest.raises(DeclarationInvalid, match="would not count: it is late"):
        sign_as_person(approval, CURATED, "example", office.ann.sign, explain)


def test_decision_that_could_not_be_read_again_is_refused(office):
    """The deploy gate reads all that is attached to an image, and would not decide about it any more."""
    names = tuple(f"release.refused: scan.critical: {number} {'x' * 1000}" for number in range(2000))
    use = BreakGlass(
        environment="production", digest=DIGEST, by="ann", reason="so", at=NOON, expires=NOON + timedelta(hours=1),
        overrides=names,
    )  # fmt: skip

    with pytest.raises(DeclarationInvalid, match=r"too long.*signature: String should have at most 2097152"):
        sign_as_person(use, CURATED, "example", office.ann.sign, lambda _: "")
