"""Provenance of others: a trusted builder's raises the build level of an image, and nothing else in a gate."""

from dataclasses import replace

import pytest

from supply_chain.evidence.provenance import HOSTED_BUILDER, Provenance
from supply_chain.evidence.statement import PROVENANCE, Subject
from supply_chain.evidence.summary import find_last_verdict
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.fact_values import join_fact_values
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.people import FILE, People, PeopleDocument, read_people
from supply_chain.policy.verdict import record
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import Waivers
from tests.support.attached import BUILDER, attached_statement, slsa_provenance
from tests.support.builders import DIGEST, NOON
from tests.support.facts import CURATED, deploy_facts, intake_facts, release_facts
from tests.support.people import Office
from tests.support.policies import POLICIES, policy, rule
from tests.support.present import present
from tests.support.signer import EcdsaSigner

LEVEL_1, LEVEL_2, LEVEL_3 = (f"SLSA_BUILD_LEVEL_{number}" for number in (1, 2, 3))
GATES = ((Gate.RELEASE, release_facts), (Gate.DEPLOY, deploy_facts))


class Trusting:
    """A people document that lists one builder, with Bob's key."""

    def __init__(self, project):
        self.office = Office(project)
        self.list_builder()

    def list_builder(self, **changes):
        builder = {"id": BUILDER, "keys": [self.office.bob.public], "level": 3, **changes}
        self.office.builders = {"ci": builder}
        self.office.write_people()

    def attach(self, signer=None, predicate=None, subject=CURATED):
        return attached_statement(
            signer or self.office.bob, PROVENANCE, slsa_provenance() if predicate is None else predicate, subject
        )

    @property
    def people(self):
        return read_people(self.office.project / FILE, self.office.people_owner, NOON)

    def at(self, gate):
        return POLICIES.with_decisions(self.people, Waivers(), Vex()).select_gate(gate)

    def levels(self, facts, gate=Gate.RELEASE):
        verdict = evaluate(facts, self.at(gate), NOON)
        assert isinstance(verdict, Admitted)
        image = join_fact_values(facts, self.at(gate), NOON)
        assert verdict.levels == (image["build"]["level"],)
        return verdict.levels

    def notes(self, facts, gate=Gate.RELEASE):
        return join_fact_values(facts, self.at(gate), NOON)["ignored"]


@pytest.fixture
def trusting(tmp_path):
    return Trusting(tmp_path)


def hosted():
    """Return provenance of a hosted builder of ours, which is level 2."""
    predicate = present(release_facts().provenance).predicate()
    predicate["runDetails"]["builder"]["id"] = HOSTED_BUILDER
    return Provenance.model_validate(predicate)


@pytest.mark.parametrize(("gate", "make"), GATES)
def test_provenance_of_a_trusted_builder_raises_the_level(trusting, gate, make):
    """Nothing else of what the gate reads differs."""
    given = make(attached=(trusting.attach(),))

    assert (trusting.levels(make(), gate), trusting.levels(given, gate)) == ((LEVEL_1,), (LEVEL_3,))
    before, after = (join_fact_values(each, trusting.at(gate), NOON) for each in (make(), given))
    build = {**before["build"], "level": LEVEL_3, "level_builder": "ci"}
    assert after == {**before, "build": build}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.attach(signer=EcdsaSigner()), "no builder in deployments/people.yaml signed it"),
        (lambda t: t.attach(signer=t.office.ann), "no builder in deployments/people.yaml signed it"),
        (
            lambda t: t.attach(predicate=slsa_provenance(f"{BUILDER}/other")),
            "its builder.id is not that of ci in deployments/people.yaml",
        ),
        (
            lambda t: t.attach(subject=CURATED.with_digest("sha256:" + "b" * 64)),
            "it is not about exactly this image",
        ),
        (lambda t: t.attach(predicate={}), "it is not SLSA provenance v1"),
        (
            lambda t: t.attach(predicate={**slsa_provenance(), "runDetails": {"builder": {}}}),
            "it is not SLSA provenance v1",
        ),
        (lambda t: t.attach(predicate={"runDetails": {"builder": {"id": BUILDER}}}), "it is not SLSA provenance v1"),
    ],
    ids=["stranger", "person", "builder id", "digest", "empty", "no builder", "no definition"],
)
def test_provenance_that_does_not_count_is_named(trusting, change, why):
    """It changes no level, and stops no gate."""
    attached = change(trusting)
    for gate, make in GATES:
        given = make(attached=(attached,))
        assert trusting.levels(given, gate) == (LEVEL_1,)
        assert trusting.notes(given, gate) == [f"the provenance {attached} does not count: {why}"]


def test_provenance_with_another_subject_too_does_not_count(trusting):
    """It is about exactly this image, under any number of names, or it does not count."""
    attached = trusting.attach()
    own = attached.statement.subject[0]

    def given(*subjects):
        statement = attached.statement.model_copy(update={"subject": subjects})
        return release_facts(attached=(attached.model_copy(update={"statement": statement}),))

    assert trusting.levels(given(own, Subject(name="registry.example/shop", digest=own.digest))) == (LEVEL_3,)
    assert trusting.levels(given(own, Subject(name="hello", digest={"sha256": "b" * 64}))) == (LEVEL_1,)
    assert trusting.levels(given(own, Subject(name="hello", digest={"sha512": "b" * 128}))) == (LEVEL_1,)


@pytest.mark.parametrize(
    ("level", "own", "expected"), [(1, LEVEL_2, LEVEL_2), (2, LEVEL_2, LEVEL_2), (3, LEVEL_2, LEVEL_3)]
)
def test_own_level_is_never_lowered(trusting, level, own, expected):
    """The higher one counts; of equal ones, the own."""
    trusting.list_builder(level=level)
    given = release_facts(provenance=hosted(), attached=(trusting.attach(),))

    assert trusting.levels(replace(given, attached=())) == (own,) and trusting.levels(given) == (expected,)
    build = join_fact_values(given, trusting.at(Gate.RELEASE), NOON)["build"]
    assert ("level_builder" in build) is (expected != own) and trusting.notes(given) == []


def test_highest_level_of_several_builders_counts(trusting):
    """In any order, next to those that do not count."""
    trusting.office.builders["other"] = {"id": "urn:other", "keys": [trusting.office.bob.public], "level": 2}
    trusting.office.write_people()
    other, nobody = trusting.attach(predicate=slsa_provenance("urn:other")), trusting.attach(signer=EcdsaSigner())

    for attached in ((other, trusting.attach(), nobody), (nobody, trusting.attach(), other)):
        assert trusting.levels(release_facts(attached=attached)) == (LEVEL_3,)
        assert len(trusting.notes(release_facts(attached=attached))) == 1
    assert trusting.levels(release_facts(attached=(other,))) == (LEVEL_2,)


def test_builder_that_is_not_listed_any_more_shows_no_level(trusting):
    """Nor if the owner did not sign the list; a builder signs with any of its keys while it is listed."""
    given = release_facts(attached=(trusting.attach(),))
    assert trusting.levels(given) == (LEVEL_3,)
    version = trusting.people.attached_version

    trusting.list_builder(keys=[EcdsaSigner().public, trusting.office.bob.public])
    assert trusting.levels(given) == (LEVEL_3,) and trusting.people.attached_version != version
    trusting.list_builder(keys=[EcdsaSigner().public])
    assert trusting.levels(given) == (LEVEL_1,)
    trusting.office.builders = {}
    trusting.office.write_people()
    assert trusting.levels(given) == (LEVEL_1,)
    trusting.list_builder()
    trusting.office.write_people(signer=trusting.office.bob)
    assert trusting.levels(given) == (LEVEL_1,)
    (note,) = trusting.notes(given)
    assert "deployments/people.yaml does not count" in note


def test_rules_read_the_level_that_counts(trusting):
    """An admission by such a rule ends with the list of builders."""
    requires = rule(
        "a.level", when="has(image.build)", expression="image.build.level == 'SLSA_BUILD_LEVEL_3'",
        message="it was built at {image.build.level}",
    )  # fmt: skip
    deciding = policy(Gate.RELEASE, requires).with_decisions(trusting.people, Waivers(), Vex())

    verdict = evaluate(release_facts(attached=(trusting.attach(),)), deciding, NOON)

    assert isinstance(verdict, Admitted) and verdict.expires == trusting.people.expires
    assert not isinstance(evaluate(release_facts(), deciding, NOON), Admitted)


def test_provenance_of_other_builder_replaces_no_own_build(trusting):
    """The gate refuses an image without provenance of development all the same."""
    given = release_facts(provenance=None, attached=(trusting.attach(),))

    assert "build" not in join_fact_values(given, trusting.at(Gate.RELEASE), NOON)
    assert not isinstance(evaluate(given, trusting.at(Gate.RELEASE), NOON), Admitted)
    anything = policy(Gate.RELEASE, rule("a.true", expression="image.digest != ''"))
    verdict = evaluate(given, anything.with_decisions(trusting.people, Waivers(), Vex()), NOON)
    assert isinstance(verdict, Admitted) and verdict.levels == ()


def test_verdict_states_the_level_and_names_the_provenance(trusting, world):
    """Enforcers read it as `verifiedLevels`; a refusal states none."""
    attached, store = trusting.attach(), world.store(TierName.CURATION)
    facts = release_facts(attached=(attached,))
    record(evaluate(facts, trusting.at(Gate.RELEASE), NOON), facts, store, NOON)

    last = present(find_last_verdict(store.read_verified(CURATED, TierName.CURATION), Gate.RELEASE, DIGEST)).value

    assert last.passed and last.predicate()["verifiedLevels"] == [LEVEL_3]
    assert f"{attached.repository}@{attached.digest}" in [each.uri for each in last.input_attestations]
    refused = replace(facts, report=None)
    record(evaluate(refused, trusting.at(Gate.RELEASE), NOON), refused, store, NOON)
    last = present(find_last_verdict(store.read_verified(CURATED, TierName.CURATION), Gate.RELEASE, DIGEST)).value
    assert last.predicate()["verifiedLevels"] == ["FAILED"]


def test_intake_verdict_states_the_own_level(trusting):
    """Nothing of others is kept in `dev/*`, where anybody can push."""
    assert trusting.levels(intake_facts(), Gate.INTAKE) == (LEVEL_1,)


@pytest.mark.parametrize(
    "changes", [{"level": 0}, {"level": 4}, {"id": ""}, {"id": "a b"}, {"keys": []}, {"keys": ["no key"]}],
    ids=lambda changes: "-".join(f"{name} {value}" for name, value in changes.items()),
)  # fmt: skip
def test_document_with_an_invalid_builder_is_refused(changes):
    """A level beyond 3 does not exist, and a builder without a key could be anybody."""
    valid = {"id": BUILDER, "keys": [EcdsaSigner().public], "level": 3}
    document = {"installation": "example", "expires": NOON, "people": {}}
    assert PeopleDocument.model_validate({**document, "builders": {"ci": valid}}).builders["ci"].level == 3

    with pytest.raises(ValueError, match=r"builders|key of ci"):
        PeopleDocument.model_validate({**document, "builders": {"ci": valid | changes}})


def test_builder_with_one_key_is_listed_once():
    """Otherwise two levels could be meant; another id or another key is another builder."""
    key, other = EcdsaSigner().public, EcdsaSigner().public
    document = {"installation": "example", "expires": NOON, "people": {}}

    def read(second):
        builders = {"a": {"id": "urn:a", "keys": [key, key], "level": 1}, "b": {"level": 3, **second}}
        return PeopleDocument.model_validate({**document, "builders": builders})

    assert (
        len(read({"id": "urn:b", "keys": [key]}).builders) == len(read({"id": "urn:a", "keys": [other]}).builders) == 2
    )
    with pytest.raises(ValueError, match="a and b have the same id and key"):
        read({"id": "urn:a", "keys": [other, key]})


def test_nobody_is_a_builder_without_a_people_document():
    """An empty list trusts nobody."""
    assert People().find_builders(lambda _: True) == ()
