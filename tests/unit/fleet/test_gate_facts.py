"""The inventory has the facts that a gate would read now, or none."""

from dataclasses import replace
from datetime import timedelta

import pytest

from supply_chain.errors import DeclarationInvalid, RegistryUnavailable, SettingInvalid
from supply_chain.evidence.attached_statement import OPENVEX
from supply_chain.evidence.image_status import Act, LifecycleDecision
from supply_chain.evidence.statement import BUNDLE, LIFECYCLE, SIGNATURE, SUMMARY, VULNERABILITIES, make_image_statement
from supply_chain.evidence.store import PREDICATE
from supply_chain.fleet import gate_facts
from supply_chain.fleet.gate_facts import compute_facts_version, refresh_facts
from supply_chain.model.declaration import Classification
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.fact_values import make_evidence_values
from supply_chain.policy.names import Holder
from supply_chain.policy.people import FILE, People, read_people
from supply_chain.policy.reading import read_deploy_facts, read_intake_facts, read_release_facts
from supply_chain.policy.verdict import locate_refusals
from tests.support.builders import NOON, finding
from tests.support.facts import requirements
from tests.support.people import Office
from tests.support.pieces import CURATED
from tests.support.vex import openvex

OTHER = "sha256:" + "b" * 64


@pytest.fixture
def read(fleet):
    """Return a function that reconciles images and facts, and returns the facts by gate and environment."""

    def read(reader=None):
        for application in ("hello", "shop"):
            fleet.refresh(application)
        failed = refresh_facts(None, fleet.inventory, reader or fleet.reader)
        subjects = [each.subject for each in fleet.inventory.list_subjects()]
        found = {(f.subject.gate, f.subject.environment): f for f in fleet.inventory.read_facts(subjects)}
        return found, failed

    return read


def test_stored_facts_equal_facts_of_gates(fleet, read):
    """The release gate judges each image, and the deploy gate each deployment."""
    ref = fleet.curated()
    fleet.deploy(ref)

    found, failed = read()

    staging = requirements("staging")
    assert failed == {} and {key: each.values for key, each in found.items()} == {
        (Gate.RELEASE, ""): make_evidence_values(
            read_release_facts(ref, fleet.store, lambda _: (), (), None), People(), NOON
        ),
        (Gate.DEPLOY, "staging"): make_evidence_values(
            read_deploy_facts(ref, staging, fleet.store, bases=(), minimum_classification=None), People(), NOON
        ),
    }


def offer(fleet, ref, without=()):
    """Offer an image with development's evidence; return it."""
    offered = ref.with_repository(f"dev/{ref.application}")
    fleet.add(offered)
    for name, piece in fleet.pieces.development.items():
        if name not in without:
            fleet.say(offered, *piece)
    return offered


def refuse(fleet, offered):
    """Attach a refusal by the intake gate."""
    refusal = fleet.pieces.verdict(Gate.INTAKE, offered, yes=False)
    fleet.say(locate_refusals(offered), TierName.CURATION, SUMMARY, refusal)


def test_facts_of_the_intake_gate_are_those_of_judged_images(fleet, read):
    """It admitted one image and refused another one; nobody has judged the third yet."""
    admitted, refused = offer(fleet, fleet.curated()), offer(fleet, CURATED.with_digest(OTHER), {"check secrets"})
    refuse(fleet, refused)
    offer(fleet, CURATED.with_digest("sha256:" + "c" * 64))

    found, failed = read()
    subjects = [each.subject for each in fleet.inventory.list_subjects() if each.subject.gate is Gate.INTAKE]
    stored = {each.subject.image: each.values for each in fleet.inventory.read_facts(subjects)}

    curated = (CURATED,)
    assert failed == {} and stored == {
        ref: make_evidence_values(read_intake_facts(ref, fleet.store, curated, None), People(), NOON)
        for ref in (admitted, refused)
    }
    assert Gate.RELEASE in {gate for gate, _ in found}


def test_intake_facts_are_read_again_only_after_changes(fleet, read):
    """Evidence of development, a lifecycle decision and the name register make them outdated; a rescan does not."""
    ref = fleet.curated()
    offered, asked = offer(fleet, ref), []

    def curated(application):
        asked.append(application)
        return ()

    reader = replace(fleet.reader, curated=curated)
    read(reader)

    later = fleet.make.report(at=NOON + timedelta(days=1))
    fleet.say(ref, TierName.CURATION, VULNERABILITIES, later.predicate())
    read(reader)
    assert asked == ["hello"]

    fleet.say(offered, TierName.DEVELOPMENT, VULNERABILITIES, later.predicate())
    found, _ = read(reader)
    assert found[Gate.INTAKE, ""].values.image["source_scan"]["scanned"] == later.scanned

    block = LifecycleDecision(act=Act.BLOCK, image=str(ref), by="ann", reason="exploited", at=NOON)
    fleet.say(
        ref.with_repository("evidence/lifecycle/hello"), TierName.LIFECYCLE, LIFECYCLE, block.model_dump(mode="json")
    )
    found, _ = read(reader)
    assert found[Gate.INTAKE, ""].values.image["block"]["by"] == "ann"

    fleet.registered = Holder(owner="platform")
    found, _ = read(replace(fleet.reader, curated=curated))
    assert "platform" in found[Gate.INTAKE, ""].values.image["name_conflict"]["holder"]
    assert asked == ["hello"] * 4


def test_removed_offered_image_is_not_judged_any_more(fleet, read):
    """The facts go with the image."""
    refused = offer(fleet, CURATED)
    refuse(fleet, refused)
    assert (Gate.INTAKE, "") in read()[0]

    fleet.remove(refused)
    assert read()[0] == {}


def test_facts_are_read_again_only_if_something_changed(fleet, read):
    """Evidence, what the environment requires, and the code that joins facts: each makes them outdated."""
    ref = fleet.curated()
    fleet.deploy(ref)
    before, _ = read()
    asked = []

    def bases():
        asked.append("bases")
        return ()

    def reader(**changes):
        return replace(fleet.reader, bases=bases, requirements=lambda name: requirements(name, **changes))

    assert read(reader())[0] == before and asked == []
    after, _ = read(reader(approval=True))
    assert len(asked) == 1 and after[Gate.DEPLOY, "staging"].values.image["environment"]["approval"] is True
    assert after[Gate.RELEASE, ""] == before[Gate.RELEASE, ""]

    later = fleet.make.report(at=fleet.make.noon + timedelta(days=1))
    fleet.say(ref, TierName.CURATION, VULNERABILITIES, later.predicate())
    assert read(reader())[0][Gate.RELEASE, ""].values.image["scan"]["scanned"] == later.scanned


def test_facts_of_an_outdated_entry_are_not_read(fleet, read):
    """They would be those of an image that nobody has looked at."""
    fleet.curated()
    read()
    fleet.inventory.mark_stale()
    reader = replace(fleet.reader, bases=lambda: pytest.fail("it is read"))

    assert refresh_facts(None, fleet.inventory, reader) == {}


def test_other_code_makes_all_facts_outdated(fleet, monkeypatch):
    """Facts that were joined differently are not what the rules would read."""
    before = compute_facts_version("", requirements, People(), None)
    monkeypatch.setattr(gate_facts, "compute_code_digest", lambda: "sha256:" + "f" * 64)

    assert compute_facts_version("", requirements, People(), None) != before


def test_other_minimum_classification_makes_facts_outdated(fleet, read):
    """The register may change after the images were admitted."""
    ref = fleet.curated()
    assert "classification_conflict" not in read()[0][Gate.RELEASE, ""].values.image
    fleet.registered = Holder(classification=Classification.CONFIDENTIAL)
    fleet.deploy(ref)

    found, _ = read()

    assert {key: each.values.image["classification_conflict"]["minimum"] for key, each in found.items()} == {
        (Gate.RELEASE, ""): "confidential",
        (Gate.DEPLOY, "staging"): "confidential",
    }


def test_other_people_make_facts_of_deployments_outdated(fleet, read, tmp_path):
    """They may count another approval; the release gate asks nobody."""
    office = Office(tmp_path)
    office.write_people()
    people = read_people(tmp_path / FILE, office.people_owner, NOON)

    changed = [
        compute_facts_version(each, requirements, people, None)
        != compute_facts_version(each, requirements, People(), None)
        for each in ("staging", "")
    ]
    assert changed == [True, False]
    assert compute_facts_version("staging", requirements, people, None) == compute_facts_version(
        "staging", requirements, people, None
    )


@pytest.mark.parametrize("error", [DeclarationInvalid, SettingInvalid])
def test_facts_of_an_unknown_environment_are_named(fleet, read, error):
    """The others are stored."""

    def missing(name):
        raise error(f"{name} does not exist.")

    fleet.deploy(fleet.curated(), "gone")

    found, failed = read(replace(fleet.reader, requirements=missing))

    assert list(found) == [(Gate.RELEASE, "")]
    assert [(each.environment, why) for each, why in failed.items()] == [
        ("gone", f"gone does not exist. [{error.code}]")
    ]


def test_unreadable_evidence_is_no_facts(fleet, read):
    """The image stays without facts, and others get theirs."""
    spoilt, good = fleet.curated(), fleet.curated(OTHER, "shop")
    fleet.refresh()
    where = spoilt.with_repository("evidence/curation/hello")
    fleet.spoil(where)

    found, _ = read()

    assert [each.subject.image for each in found.values()] == [good]
    assert [(each.subject.image, each.mark) for each in fleet.inventory.list_subjects("hello")] == [(spoilt, "")]


def test_failure_of_a_base_is_named_with_the_image(fleet, read):
    """The image itself can be read, so that no other line would name it."""
    ref = fleet.curated()
    base = ref.with_repository("curated/base/python").with_digest(OTHER)
    fleet.say(base, TierName.CURATION, SIGNATURE, {})
    reader = replace(fleet.reader, layers=lambda ref: ("sha256:" + "1" * 64,), bases=lambda: (base,))

    found, failed = read(reader)

    assert not found and [each.image for each in failed] == [ref]
    assert "has no SBOM that curation signed" in next(iter(failed.values()))


def test_outage_ends_the_refresh(fleet, read):
    """A registry that does not answer says nothing about an image; what is stored stays."""
    fleet.curated()
    fleet.curated(OTHER, "shop")
    read()
    fleet.inventory.mark_stale("hello")
    fleet.refresh()

    def unavailable():
        raise RegistryUnavailable("no answer")

    with pytest.raises(RegistryUnavailable):
        refresh_facts(None, fleet.inventory, replace(fleet.reader, bases=unavailable))
    stored = {state.subject.image.application: bool(state.version) for state in fleet.inventory.list_subjects()}
    assert stored == {"hello": False, "shop": True}


def test_other_issuers_make_all_facts_outdated(tmp_path):
    """They may count another attached document."""
    office = Office(tmp_path)
    office.issuers = {"acme": office.bob}
    office.write_people()
    people = read_people(tmp_path / FILE, office.people_owner, NOON)

    for environment in ("staging", ""):
        found = compute_facts_version(environment, requirements, people, None)
        assert found != compute_facts_version(environment, requirements, replace(people, issuers={}), None)


def test_stored_facts_have_packages_and_statements_of_attached_documents(fleet, read, tmp_path):
    """A preview joins the project's documents with them."""
    office = Office(tmp_path)
    office.issuers = {"acme": office.bob}
    office.write_people()
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    ref = fleet.curated()
    later = fleet.make.report(finding(), at=NOON + timedelta(days=1))
    fleet.say(ref, TierName.CURATION, VULNERABILITIES, later.predicate())
    bundle = office.bob.sign(make_image_statement(ref, OPENVEX, openvex()))
    fleet.world.registry.attach(ref, BUNDLE, bundle, {PREDICATE: OPENVEX})

    found, _ = read(replace(fleet.reader, people=people))

    values = found[Gate.RELEASE, ""].values
    assert [each[:2] for each in values.packages] == [("deb", "openssl")]
    assert [each.signer for each in values.attached] == ["acme"]
