"""Proposed documents: what each is, and what they would decide if somebody who may had signed them."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
import yaml

from supply_chain.errors import DeclarationInvalid
from supply_chain.policy.people import FILE, People, read_people
from supply_chain.policy.proposals import Proposal, SignedDecisions, sort_proposals
from supply_chain.policy.signed_documents import DocumentKind, locate_signature, make_document_statement
from supply_chain.policy.vex import DIRECTORY as VEX
from supply_chain.policy.vex import read_signed_vex
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from supply_chain.policy.waivers import read_signed_waivers
from supply_chain.vulnerability.findings import Severity
from supply_chain.vulnerability.vex.statement import VexStatus
from tests.support.builders import NOON
from tests.support.people import Office
from tests.support.vex import csaf, openvex, openvex_statement

WAIVABLE = {"a.b": True, "a.fixed": False}
WAIVER = {
    "rules": ["a.b"], "applications": ["*"], "reason": "r", "ticket": "t", "requester": "bob",
    "expires": NOON + timedelta(days=30),
}  # fmt: skip


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path)
    office.issuers = {"vendor": office.bob, "acme": office.ann}
    office.write_people()
    return office


def waiver(**changes):
    return yaml.safe_dump({key: value for key, value in {**WAIVER, **changes}.items() if value is not None})


def signed(office, now=NOON):
    people = read_people(office.project / FILE, office.people_owner, now)
    waivers = read_signed_waivers(office.project / WAIVERS, people, now)
    return SignedDecisions(people, waivers, read_signed_vex(office.project / VEX, people, now))


def propose(office, waivers=None, vex=None, current=WAIVABLE, proposed=WAIVABLE):
    documents = Proposal({}, waivers or {}, {name: json.dumps(each) for name, each in (vex or {}).items()})
    return signed(office).propose(documents, current, proposed, NOON)


def names(waivers):
    return {each.name: each.by for each in waivers.valid}


def test_kind_of_proposed_document_is_recognised_by_content():
    """The gates read each kind from a directory of its own."""
    policy = yaml.safe_dump({"name": "p", "gates": ["release"], "rules": []})
    texts = {
        "x/p.yaml": policy, "y/w.yaml": waiver(), "y/o.json": json.dumps(openvex()), "c.json": json.dumps(csaf()),
    }  # fmt: skip

    assert sort_proposals(texts) == Proposal(
        {"x/p.yaml": policy},
        {"w.yaml": texts["y/w.yaml"]},
        {"o.json": texts["y/o.json"], "c.json": texts["c.json"]},
    )


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        (
            "people.yaml",
            "expires: 2027-01-01\npeople: {}\n",
            "people.yaml is not a policy (`gates`), waiver (`requester`)",
        ),
        ("list.yaml", "- a\n", "list.yaml is not a policy"),
        ("list.json", "[1]", "list.json is not a policy"),
        ("text.yaml", "a: [", "text.yaml:"),
        ("text.json", "{", "text.json: "),
        ("w.yml", waiver(), "w.yml is a waiver, which no gate reads.\nCall it NAME.yaml."),
        ("p.txt", "gates: []", "p.txt is a policy, which no gate reads.\nCall it NAME.yaml."),
        ("o.yaml", json.dumps(openvex()), "o.yaml is a VEX document, which no gate reads.\nCall it NAME.json."),
    ],
)
def test_file_of_no_kind_or_place_is_refused(file, text, why):
    """A preview of it would say that nothing changes."""
    with pytest.raises(DeclarationInvalid) as raised:
        sort_proposals({"fine.yaml": waiver(), file: text})

    assert raised.value.message.startswith(why)


def test_two_documents_of_one_name_are_refused():
    """They cannot both be the project's; a policy has its name inside."""
    with pytest.raises(DeclarationInvalid, match=r"^y/w.yaml has the name of another proposed waiver"):
        sort_proposals({"x/w.yaml": waiver(), "y/w.yaml": waiver()})

    texts = {"x/p.yaml": "gates: []", "y/p.yaml": "gates: []", "z/p.yaml": waiver()}
    assert len(sort_proposals(texts).policies) == 2


def test_proposed_waiver_counts_as_signed_by_person_with_role(office):
    """Also one that takes the place of another; current decisions stay as they are."""
    for name in ("other", "zlib"):
        office.waive(name)
    found = propose(office, {"new.yaml": waiver(), "zlib.yaml": waiver()})

    assert names(found.current.waivers) == {"other": "ann", "zlib": "ann"}
    assert {each.name: (each.by, each.document.rules) for each in found.proposed.waivers.valid} == {
        "other": ("ann", ()), "zlib": ("ann", ("a.b",)), "new": ("ann", ("a.b",)),
    }  # fmt: skip
    assert found.notes == (
        "waiver new, as if ann had signed it (deployments/waivers/new.yaml)",
        "waiver zlib, as if ann had signed it (deployments/waivers/zlib.yaml)",
    )
    assert found.proposed.vex is found.current.vex


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rules": ["a.fixed"]}, "nobody may waive the rule a.fixed"),
        ({"rules": ["a.none"]}, "there is no rule a.none"),
        ({"rules": ["b.c"]}, "there is no rule b.c"),
        ({"expires": NOON + timedelta(days=91)}, "it lasts until 2027-02-23, and ann may waive for 90 days"),
        ({"expires": NOON}, "it expired on 2026-11-24"),
        ({"requester": "ann"}, "ann requested it and signed it; another person has to sign"),
    ],
)
def test_waiver_without_effect_says_why_and_replaces_the_current_one(office, changes, why):
    """Nobody could sign it so that it counts."""
    office.waive("zlib")
    found = propose(office, {"zlib.yaml": waiver(**changes)})

    assert names(found.current.waivers) == {"zlib": "ann"} and found.proposed.waivers.valid == ()
    assert found.notes == (f"waiver zlib, which would have no effect: {why}",)


def test_waiver_of_a_project_without_people_says_so(office):
    """Somebody has to be listed, and the owner has to have signed it."""
    office.write_people(signer=office.bob)
    assert "deployments/people.yaml does not count" in propose(office, {"new.yaml": waiver()}).notes[0]

    people = People(people={"bob": replace_role(signed_people(office), None)})
    found = SignedDecisions(people, (), {}).propose(Proposal({}, {"new.yaml": waiver()}), WAIVABLE, WAIVABLE, NOON)
    assert found.notes == (
        "waiver new, which would have no effect: nobody in deployments/people.yaml may waive anything",
    )


def signed_people(office):
    office.write_people()
    return read_people(office.project / FILE, office.people_owner, NOON)


def replace_role(people, role):
    return people.people["ann"].model_copy(update={"waive": role})


def test_person_who_may_accept_most_is_assumed_to_sign(office):
    """A severity that only one of them may accept is accepted; of equals, the first by name."""
    people = signed_people(office)
    role = people.people["ann"].waive
    roles = {"zoe": "critical", "eve": "critical", "ann": "high", "cat": None}
    everybody = {
        name: replace_role(people, role.model_copy(update={"vulnerabilities": each and Severity(each)}))
        for name, each in roles.items()
    }
    given = SignedDecisions(replace(people, people=everybody), (), {})

    def signers(**changes):
        documents = Proposal({}, {"new.yaml": waiver(**changes)})
        return [each.by for each in given.propose(documents, WAIVABLE, WAIVABLE, NOON).proposed.waivers.valid]

    assert signers(rules=None, vulnerabilities=["CVE-1"]) == ["eve"]
    assert signers(requester="eve") == ["zoe"]


def test_person_with_fewer_obstacles_is_preferred(office):
    """A role that allows the rule comes before one that may accept worse vulnerabilities."""
    people = signed_people(office)
    own = replace_role(people, people.people["ann"].waive.model_copy(update={"rules": ("x.y",)}))
    everybody = {"aaa": own, "ann": replace_role(people, people.people["ann"].waive.model_copy(
        update={"vulnerabilities": None}))}  # fmt: skip
    given = SignedDecisions(replace(people, people=everybody), (), {})

    found = given.propose(Proposal({}, {"new.yaml": waiver()}), WAIVABLE, WAIVABLE, NOON)
    assert names(found.proposed.waivers) == {"new": "ann"}


def test_waiver_under_a_name_that_is_not_read_has_no_effect(office):
    """The file in deployments/waivers would not count."""
    assert "its name has other characters" in propose(office, {"A b.yaml": waiver()}).notes[0]


def test_rules_of_the_proposed_policies_decide_about_waivers(office):
    """A signed waiver may gain or lose its effect, and a proposed one is judged by them."""
    office.waive("zlib", rules=("a.b",))
    found = propose(office, {"new.yaml": waiver()}, proposed={"a.b": False})
    assert names(found.current.waivers) == {"zlib": "ann"} and found.proposed.waivers.valid == ()

    found = propose(office, {"new.yaml": waiver()}, current={"a.b": False})
    assert found.current.waivers.valid == () and set(names(found.proposed.waivers)) == {"zlib", "new"}


@pytest.mark.parametrize("documents", [{"waivers": {"w.yaml": "requester: bob"}}, {"vex": {"v.json": {"@context": 1}}}])
def test_invalid_document_is_an_error(office, documents):
    """There is nothing to compare with."""
    with pytest.raises(DeclarationInvalid, match=r"^[wv]"):
        propose(office, **documents)


def test_proposed_vex_document_counts_as_signed_by_issuer(office):
    """That is the first, or who signed the document that it replaces; what is signed stays."""
    directory = office.project / VEX
    directory.mkdir(parents=True)
    for name in ("old.json", "other.json"):
        (directory / name).write_text(json.dumps(openvex(**{"@id": name})))
        content = (directory / name).read_bytes()
        statement = make_document_statement(DocumentKind.VEX, name, content, "example", NOON)
        locate_signature(directory / name).write_bytes(office.bob.sign(statement))
    fixed = openvex_statement(status="fixed", justification=None)

    found = propose(
        office, vex={"new.json": openvex(**{"@id": "new"}), "old.json": openvex(fixed, **{"@id": "old.json"})}
    )

    def stated(vex):
        return {each.document: (each.signer, each.status) for each in vex.index.statements}

    not_affected = VexStatus.NOT_AFFECTED
    assert stated(found.current.vex) == {"old.json": ("vendor", not_affected), "other.json": ("vendor", not_affected)}
    assert stated(found.proposed.vex) == {
        "old.json": ("vendor", VexStatus.FIXED), "other.json": ("vendor", not_affected), "new": ("acme", not_affected),
    }  # fmt: skip
    assert found.notes == (
        "VEX document old.json with 1 statement, as if vendor had signed it (deployments/vex/old.json)",
        "VEX document new.json with 1 statement, as if acme had signed it (deployments/vex/new.json)",
    )
    assert found.proposed.vex.version != found.current.vex.version


def test_vex_document_that_would_not_count_says_why(office):
    """Of the future, or without any issuer."""
    late = openvex(timestamp="2026-11-24T13:00:00Z")
    (note,) = propose(office, vex={"new.json": late}).notes
    assert note.startswith("VEX document new.json, which would not count: it states something at 2026-11-24 13:00 UTC")

    office.issuers = {}
    office.write_people()
    found = propose(office, vex={"new.json": openvex()})
    assert found.notes == ("VEX document new.json, which would not count: deployments/people.yaml lists no issuer",)
    assert found.proposed.vex.index is None
    office.write_people(signer=office.bob)
    assert "deployments/people.yaml does not count" in propose(office, vex={"new.json": openvex()}).notes[0]
