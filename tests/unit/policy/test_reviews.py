"""Reviews: of exactly one commit, signed by somebody who may, and who did not make its last change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from supply_chain.errors import DeclarationInvalid
from supply_chain.model.tier import Gate
from supply_chain.policy.fact_values import join_fact_values
from supply_chain.policy.gate import evaluate
from supply_chain.policy.people import FILE, People, read_people
from supply_chain.policy.reviews import DIRECTORY, ReviewDocument, Reviews, name_review, read_reviews
from supply_chain.policy.signed_documents import DocumentKind, locate_signature
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import Waivers
from tests.support.builders import NOON, source
from tests.support.facts import FACTS, intake_facts, provenance_of
from tests.support.people import Office
from tests.support.policies import POLICIES, policy, rule

ANN, BOB = "ann@shop.example", "bob@shop.example"
COMMIT = source().revision
REVIEWED = rule("provenance.not-reviewed", expression="size(image.build.reviewers) > 0")


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office(tmp_path)
    made.may, made.bob_may = {"emails": [ANN], "review": True}, {"emails": [BOB], "review": True}
    made.write_people()
    return made


def sign(office: Office, name: str = "one", signer: Any = None, at: Any = NOON, **changes: Any) -> Path:
    """Write a review of the commit, signed by Ann unless another one signs it."""
    document = {"repository": "shop", "revision": COMMIT, "reason": "pull request 17"} | changes
    return office.write(office.project / DIRECTORY / f"{name}.yaml", document, DocumentKind.REVIEW, signer, at)


def read(office: Office, now: Any = NOON) -> Reviews:
    people = read_people(office.project / FILE, office.people_owner, now)
    return read_reviews(office.project / DIRECTORY, people, now)


def why(office: Office) -> str:
    """Return why the only review does not count."""
    found = read(office)
    (report,) = found.reports
    assert found.valid == () and reviewers(office) == []
    return report.why


def reviewers(office: Office, gate: Gate = Gate.INTAKE, **changes: Any) -> list[str]:
    """Return who reviewed the source, by the facts of a gate."""
    built = provenance_of(source=source(**{"committers": (BOB,)} | changes))
    of_gate = POLICIES.with_decisions(People(), Waivers(), Vex(), read(office)).select_gate(gate)
    found = join_fact_values(FACTS[gate](provenance=built), of_gate, NOON)["build"]["reviewers"]
    assert isinstance(found, list)
    return found


def test_review_by_other_person_than_committer_counts_at_every_gate(office: Office) -> None:
    """Operators see by whom and why."""
    sign(office)
    sign(office, "two")

    assert [reviewers(office, gate) for gate in Gate] == [["ann"]] * 3
    (report, _) = read(office).reports
    assert (report.name, report.by, report.revision, report.repository, report.reason, report.why) == (
        "one", "ann", COMMIT, "shop", "pull request 17", "",
    )  # fmt: skip


def test_review_by_last_committer_does_not_count(office: Office) -> None:
    """Another one still does, and who may be the author counts nowhere."""
    sign(office, "own", office.bob)
    assert reviewers(office) == []
    assert reviewers(office, committers=()) == []
    assert reviewers(office, committers=(BOB.upper(), ANN)) == []

    sign(office)
    assert reviewers(office) == ["ann"]
    assert reviewers(office, committers=(ANN, "dora@shop.example")) == ["bob"]


def test_reviewer_without_addresses_does_not_count(office: Office) -> None:
    """Nobody knows whether the person is the author."""
    office.may = {"review": True}
    office.write_people()
    sign(office)

    assert reviewers(office) == []


@pytest.mark.parametrize(
    "changes", [{"revision": "4" * 40}, {"repository": "shop2"}, {"dirty": True}, {"revision": "none"}]
)
def test_review_of_another_source_does_not_count(office: Office, changes: dict[str, Any]) -> None:
    """It is of exactly that commit of that repository, without changes."""
    sign(office)
    assert reviewers(office, **changes) == []


def test_image_without_provenance_has_no_reviewers(office: Office) -> None:
    """Another rule refuses it."""
    sign(office)
    assert "build" not in join_fact_values(intake_facts(provenance=None), POLICIES.intake, NOON)


def test_unsigned_or_changed_review_does_not_count(office: Office) -> None:
    """It is not even parsed."""
    file = sign(office)
    file.write_bytes(file.read_bytes() + b"\n")
    assert "it was changed since" in why(office)

    locate_signature(file).unlink()
    assert why(office) == "nobody signed it"


def test_review_by_a_stranger_or_as_another_document_does_not_count(office: Office) -> None:
    """A signature for one kind of document is none for another."""
    sign(office, signer=office.owner)
    assert why(office) == "no key that is trusted for it signed it"

    document = {"repository": "shop", "revision": COMMIT, "reason": "r"}
    office.write(office.project / DIRECTORY / "one.yaml", document, DocumentKind.WAIVER, None, NOON)
    assert why(office) == "ann signed it as another kind of document"


def test_review_without_the_role_does_not_count(office: Office) -> None:
    """The report names the commit all the same."""
    office.may = {"emails": [ANN]}
    office.write_people()
    sign(office)

    assert why(office) == "ann may not review, by deployments/people.yaml"
    (report,) = read(office).reports
    assert (report.by, report.revision) == ("ann", COMMIT)


def test_review_by_a_removed_person_does_not_count(office: Office) -> None:
    """What they signed ends with them."""
    sign(office)
    office.ann, signer = office.bob, office.ann
    office.bob = signer
    people = read_people(office.project / FILE, office.people_owner, NOON)
    remaining = replace(people, people={"bob": people.people["bob"]}, keys={"bob": people.keys["bob"]})

    found = read_reviews(office.project / DIRECTORY, remaining, NOON)

    assert found.valid == () and found.reports[0].why == "no key that is trusted for it signed it"


def test_reviews_do_not_count_without_trusted_people(office: Office) -> None:
    """The report says why nobody's signature counts."""
    sign(office)
    office.write_people(signer=office.bob)

    assert "deployments/people.yaml does not count" in why(office)


def test_review_of_the_future_does_not_count(office: Office) -> None:
    """Nobody signed it yet."""
    sign(office, at=NOON + timedelta(days=1))
    assert "in the future" in why(office)


@pytest.mark.parametrize("changes", [{"revision": COMMIT[:12]}, {"revision": COMMIT.upper()}, {"reason": " "}])
def test_invalid_review_is_reported_with_its_signer(office: Office, changes: dict[str, Any]) -> None:
    """An abbreviated commit could be two."""
    sign(office, **changes)

    assert next(iter(changes)) in why(office)
    assert read(office).reports[0].by == "ann"


def test_review_that_is_a_directory_does_not_count(office: Office) -> None:
    """A directory is named, and others are read."""
    (office.project / DIRECTORY / "one.yaml").mkdir(parents=True)
    assert why(office) == "it is not a file"


def test_rule_refuses_unreviewed_commit(office: Office) -> None:
    """The verdict can change without new evidence, so that a rescan judges again."""
    strict = policy(Gate.INTAKE, REVIEWED)
    facts = intake_facts(provenance=provenance_of(source=source(committers=(BOB,))))
    verdict = evaluate(facts, strict, NOON)
    assert [each.code for each in getattr(verdict, "reasons", ())] == ["provenance.not-reviewed"]

    sign(office)
    people = read_people(office.project / FILE, office.people_owner, NOON)
    reviewed = strict.with_decisions(people, Waivers(), Vex(), read(office))
    assert not hasattr(evaluate(facts, reviewed, NOON), "reasons")
    assert not strict.is_settled and policy(Gate.INTAKE, rule("a.b")).is_settled


def test_file_is_named_after_commit_and_person() -> None:
    """A name that people.yaml cannot have is no part of a path."""
    document = ReviewDocument(repository="shop", revision=COMMIT, reason="r")
    assert name_review(document, "ann.lee") == f"{COMMIT[:12]}-ann.lee.yaml"
    for wrong in ("../ann", "Ann Lee", ""):
        with pytest.raises(DeclarationInvalid, match="not the name of a person"):
            name_review(document, wrong)


@pytest.mark.parametrize(("length", "valid"), [(0, False), (1, True), (1000, True), (1001, False)])
def test_repository_of_review_has_1_to_1000_characters(office: Office, length: int, valid: bool) -> None:
    """Otherwise it is the repository of no source."""
    sign(office, repository="r" * length)

    (report,) = read(office).reports
    assert (report.why == "") is valid and (valid or "repository" in report.why)
