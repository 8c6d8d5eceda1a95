"""Segregation of duties at the deploy gate: who made the last commit does not approve it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supply_chain.evidence.approval import Approval
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.gate import evaluate
from supply_chain.policy.loading import DIRECTORY, replace_policies
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.people import FILE, PeopleDocument, read_people
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import Waivers
from tests.support.builders import DIGEST, NOON, declaration, source
from tests.support.command import ROOT
from tests.support.facts import CURATED, deploy_facts, provenance_of, requirements
from tests.support.people import Office
from tests.support.policies import DEPLOY, ENVIRONMENTS, POLICIES
from tests.support.signer import EcdsaSigner

DECLARED = declaration(environments=["staging", "production"])
ANN, BOB = "ann@shop.example", "bob@shop.example"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path)
    office.may, office.bob_may = {"emails": [ANN]}, {"emails": [BOB, "b@home.example"]}
    return office


def codes(
    office: Office, *approvers: str, required: int = 1, deploy: GatePolicy[DeployFacts] = DEPLOY, **changes: Any
) -> set[str]:
    """Return why the deploy gate refuses an image that these people approved with their own keys."""
    office.write_people()
    people = read_people(office.project / FILE, office.people_owner, NOON)
    approvals = []
    for name in approvers:
        given = Approval(
            environment="production",
            digest=DIGEST,
            decision="approved",
            by=name,
            reason="so",
            decided=NOON,
            installation="example",
        )
        bundle = getattr(office, name).sign(given.statement(CURATED))
        approvals.append(given.model_copy(update={"signature": bundle.decode()}))
    facts = deploy_facts(
        DECLARED,
        provenance=provenance_of(DECLARED, source=source(**{"committers": (ANN,)} | changes)),
        environment=requirements("production", approval=required > 0, signed_approvals=required),
        approval=approvals[-1] if approvals else None,
        signed_approvals=tuple(approvals),
    )
    verdict = evaluate(facts, deploy.with_decisions(people, Waivers(), Vex()), NOON)
    assert isinstance(verdict, Refused | Admitted)
    return {each.code for each in verdict.reasons} if isinstance(verdict, Refused) else set()


def test_last_committer_does_not_approve(office: Office) -> None:
    """Somebody else does; the committer's approval does no harm then."""
    assert codes(office, "ann") == {"approval.by-committer"}
    assert codes(office, "bob") == set()
    assert codes(office, "ann", "bob") == set()
    assert codes(office, "ann", "bob", required=2) == {"approval.by-committer"}
    assert codes(office, "bob", committers=(ANN, "b@home.example")) == {"approval.by-committer"}


def test_unknown_committer_may_be_anybody(office: Office) -> None:
    """Without a commit, with uncommitted changes, and with an approver whose addresses nobody wrote down."""
    assert codes(office, "bob", committers=()) == {"approval.by-committer"}
    assert codes(office, "bob", dirty=True) == {"approval.by-committer"}
    office.bob_may = {}
    assert codes(office, "bob") == {"approval.by-committer"}


def test_committer_may_deploy_where_no_signature_is_required(office: Office) -> None:
    """One person with a laptop is enough there; and too few approvals are one reason, not two."""
    assert codes(office, required=0) == codes(office, "ann", required=0) == set()
    assert codes(office, "bob", required=2) == {"approval.too-few"}


def test_library_does_not_count_the_last_committer(office: Office) -> None:
    """Two people approved, and one of them approved the own work; a waiver cannot accept that."""
    text = (ROOT / DIRECTORY / "library" / "duties.yaml").read_text(encoding="utf-8")
    policies = replace_policies(POLICIES, {"duties.yaml": text}, ENVIRONMENTS)

    assert codes(office, "ann", "bob", deploy=policies.deploy) == {"duties.too-few"}
    assert codes(office, "ann", "bob", deploy=policies.deploy, committers=("carl@shop.example",)) == set()
    office.may, office.bob_may = office.bob_may, {"emails": [ANN]}
    text = text.replace("people: 2", "people: 0", 1).replace("team: [ann, bob]", "team: [bob]", 1)
    team = replace_policies(POLICIES, {"duties.yaml": text}, ENVIRONMENTS)
    assert codes(office, "ann", "bob", deploy=team.deploy) == {"duties.team"}
    assert not any(policies.waivable[each] for each in ("duties.too-few", "duties.team"))


@pytest.mark.parametrize(
    ("own", "committed"),
    [("Stra\u00dfe@shop.example", "strasse@shop.example"), ("zoe\u0308@shop.example", "zo\u00eb@shop.example")],
)
def test_address_is_the_same_in_another_encoding(office: Office, own: str, committed: str) -> None:
    """Git's addresses are folded in another way than those of the people document."""
    office.may = {"emails": [own]}
    assert codes(office, "ann", committers=(committed,)) == {"approval.by-committer"}


def test_addresses_are_compared_without_case() -> None:
    """As git and mail servers treat them in practice."""
    person = {"keys": [EcdsaSigner().public], "emails": ["Ann@Shop.Example"]}
    document = PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": {"ann": person}})

    assert document.people["ann"].emails == (ANN,)


@pytest.mark.parametrize("email", ["ann", "a b@c", "", "@", f"{'x' * 319}@c"])
def test_address_without_a_name_and_a_host_is_refused(email: str) -> None:
    """It would match no commit, and hide that."""
    person = {"keys": [EcdsaSigner().public], "emails": [email]}
    with pytest.raises(ValueError, match="emails"):
        PeopleDocument.model_validate({"installation": "example", "expires": NOON, "people": {"ann": person}})
