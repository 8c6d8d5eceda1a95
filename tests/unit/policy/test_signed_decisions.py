"""Lifecycle decisions that people sign: where only signed ones lift, no other unblock or unhold has an effect."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.image_status import (
    LIFTS,
    Act,
    LifecycleDecision,
    block_repository,
    compute_image_status,
    locate_image_status,
    read_image_status,
    sign_decision,
)
from supply_chain.evidence.statement import APPROVAL, LIFECYCLE
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.fact_values import make_fact_values
from supply_chain.policy.people import FILE, People, make_uncounted_error, read_people
from tests.support.builders import DIGEST, NOON, OTHER
from tests.support.facts import CURATED, deploy_facts
from tests.support.people import Office
from tests.support.signer import EcdsaSigner
from tests.support.world import World

ANOTHER = CURATED.with_digest(OTHER)
ELSEWHERE = ImageRef(repository="curated/other", digest=DIGEST)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path)
    office.may = {"block": True, "hold": True}
    office.write_people()
    return office


def people(office: Office) -> People:
    return read_people(office.project / FILE, office.people_owner, NOON)


def store(world: World, office: Office, tier: TierName = TierName.EXECUTION) -> EvidenceStore:
    """Return a store where only signed decisions lift."""
    return replace(world.store(tier), explain_uncounted=people(office).explain_uncounted_lift)


def decision(act: Act, image: ImageRef = CURATED, by: str = "ann", at: datetime = NOON) -> LifecycleDecision:
    return LifecycleDecision(act=act, by=by, reason="so", at=at, image=str(image))


def signed(given: LifecycleDecision, signer: EcdsaSigner, image: ImageRef = CURATED) -> LifecycleDecision:
    bound = given.model_copy(update={"installation": "example"})
    return bound.model_copy(update={"signature": signer.sign(bound.statement(image)).decode()})


def attach(world: World, given: LifecycleDecision, image: ImageRef = CURATED, *, everywhere: bool = False) -> None:
    place = block_repository(image.digest) if everywhere else locate_image_status(image)
    world.store(TierName.LIFECYCLE).attach(place, LIFECYCLE, given.predicate(), given.at)


def status(world: World, office: Office, image: ImageRef = CURATED) -> tuple[bool, bool]:
    found = compute_image_status(read_image_status(image, store(world, office)).evidence)
    return found.block is not None, found.hold is not None


def test_unsigned_decision_lifts_neither_block_nor_hold(world: World, office: Office) -> None:
    """The lifecycle's key alone does not; what was left out is noted with its reason."""
    for act, undoes in ((Act.BLOCK, Act.UNBLOCK), (Act.HOLD, Act.UNHOLD)):
        attach(world, decision(act))
        attach(world, decision(undoes, at=NOON + timedelta(seconds=1)))
    attach(world, decision(Act.UNBLOCK, at=NOON + timedelta(seconds=2)).model_copy(update={"rule": "a.rule"}))

    assert status(world, office) == (True, True)
    (note,) = read_image_status(CURATED, store(world, office)).notes()
    assert "unblock without effect: it is not signed with a key of ann in deployments/people.yaml" in note
    assert "1 × unhold without effect" in note
    assert compute_image_status(read_image_status(CURATED, world.store(TierName.EXECUTION)).evidence).block is None


def test_signed_decision_lifts_block_and_hold(world: World, office: Office) -> None:
    """It is signed by somebody who may."""
    for act, undoes in ((Act.BLOCK, Act.UNBLOCK), (Act.HOLD, Act.UNHOLD)):
        attach(world, decision(act))
        attach(world, signed(decision(undoes, at=NOON + timedelta(seconds=1)), office.ann))

    assert status(world, office) == (False, False)


@pytest.mark.parametrize("act", LIFTS)
def test_signature_without_the_role_lifts_nothing(world: World, office: Office, act: Act) -> None:
    """Bob may approve, but neither block nor hold; and Ann's role ends with today's document."""
    assert "bob may not" in people(office).explain_uncounted_decision(
        signed(decision(act, by="bob"), office.bob), DIGEST
    )
    good = signed(decision(act), office.ann)
    assert people(office).explain_uncounted_decision(good, DIGEST) == ""

    office.may = {"block": act is Act.UNHOLD, "hold": act is Act.UNBLOCK}
    office.write_people()
    assert people(office).explain_uncounted_decision(good, DIGEST) == f"ann may not {act}"
    office.write_people(signer=office.bob)
    assert "does not count" in people(office).explain_uncounted_decision(good, DIGEST)


@pytest.mark.parametrize(
    "forged",
    [
        lambda office: signed(decision(Act.UNBLOCK), office.bob),
        lambda office: signed(decision(Act.UNBLOCK), office.ann).model_copy(update={"reason": "x"}),
        lambda office: signed(decision(Act.UNBLOCK), office.ann).model_copy(update={"at": NOON + timedelta(days=1)}),
        lambda office: signed(decision(Act.HOLD), office.ann).model_copy(update={"act": Act.UNBLOCK}),
        lambda office: signed(decision(Act.UNBLOCK), office.ann, ANOTHER),
        lambda office: signed(decision(Act.UNBLOCK), office.ann, ELSEWHERE),
        lambda office: signed(decision(Act.UNBLOCK, ANOTHER), office.ann, ANOTHER),
        lambda office: signed(decision(Act.UNBLOCK), office.ann).model_copy(update={"image": ""}),
        lambda office: signed(decision(Act.UNBLOCK), office.ann).model_copy(update={"signature": ""}),
        lambda office: signed(decision(Act.UNBLOCK), office.ann).model_copy(update={"by": "carl"}),
    ],
    ids=["another person", "another reason", "another time", "another act", "another image", "another application",
         "replayed for this image", "no image", "no signature", "nobody"],
)  # fmt: skip
def test_changed_or_replayed_signature_lifts_no_block(world: World, office: Office, forged: object) -> None:
    """Exactly what the person signed counts."""
    attach(world, decision(Act.BLOCK, at=NOON - timedelta(days=1)))
    assert callable(forged)
    attach(world, forged(office))

    assert status(world, office) == (True, False)


def test_signed_unblock_counts_under_every_name_and_unhold_does_not(world: World, office: Office) -> None:
    """As a block does, and a hold does not."""
    later = NOON + timedelta(seconds=1)
    attach(world, decision(Act.BLOCK), everywhere=True)
    attach(world, signed(decision(Act.UNBLOCK, ELSEWHERE, at=later), office.ann, ELSEWHERE), everywhere=True)
    attach(world, decision(Act.HOLD))
    attach(world, signed(decision(Act.UNHOLD, ELSEWHERE, at=later), office.ann, ELSEWHERE))

    assert status(world, office) == (False, True)
    (note,) = read_image_status(CURATED, store(world, office)).notes()
    assert "unhold without effect: it is about another application" in note


def test_block_and_hold_count_whoever_signed_them(world: World, office: Office) -> None:
    """They make things safer."""
    attach(world, signed(decision(Act.BLOCK, by="nobody"), office.bob))
    attach(world, decision(Act.HOLD))

    assert status(world, office) == (True, True)


def test_unreadable_lift_is_an_error(world: World, office: Office) -> None:
    """It is not left out: nobody knows what it is."""
    attach(world, decision(Act.BLOCK))
    broken = {"act": "unblock", "at": NOON.isoformat()}
    world.store(TierName.LIFECYCLE).attach(locate_image_status(CURATED), LIFECYCLE, broken, NOON)

    with pytest.raises(EvidenceInvalid):
        status(world, office)


def test_statement_other_than_lift_needs_no_personal_signature(world: World, office: Office) -> None:
    """Only what lifts is asked for a signature."""
    place = CURATED.with_repository("evidence/execution/hello")
    world.store(TierName.EXECUTION).attach(place, APPROVAL, decision(Act.UNBLOCK).predicate(), NOON)
    (found,) = store(world, office).read_verified(place, TierName.EXECUTION)

    assert people(office).explain_uncounted_lift(CURATED, found) == ""


def test_unsigned_unhold_of_another_application_is_called_unsigned(world: World, office: Office) -> None:
    """The first reason is the one to correct."""
    attach(world, decision(Act.HOLD))
    attach(world, decision(Act.UNHOLD, ELSEWHERE, at=NOON + timedelta(seconds=1)))

    (note,) = read_image_status(CURATED, store(world, office)).notes()
    assert "unhold without effect: it is not signed with a key of ann" in note


def test_unreadable_lift_is_left_to_its_reader(world: World, office: Office) -> None:
    """It has no reason of its own."""
    place = locate_image_status(CURATED)
    world.store(TierName.LIFECYCLE).attach(place, LIFECYCLE, {"act": "unblock", "at": NOON.isoformat()}, NOON)
    (found,) = world.store(TierName.EXECUTION).read_verified(place, TierName.LIFECYCLE)

    assert people(office).explain_uncounted_lift(CURATED, found) == ""


def test_person_can_lift_block_after_unsigned_unblock(world: World, office: Office) -> None:
    """The unsigned one does not count as a lift that is there already."""
    attach(world, decision(Act.BLOCK))
    attach(world, decision(Act.UNBLOCK, at=NOON + timedelta(seconds=1)))
    own = store(world, office, TierName.LIFECYCLE)

    sign_decision(
        CURATED, Act.UNBLOCK, own, world.ecr, by="ann", reason="so", now=NOON + timedelta(seconds=2),
        sign=lambda given: signed(given, office.ann),
    )  # fmt: skip

    assert status(world, office) == (False, False)


@pytest.mark.parametrize(("rule", "signs", "typed"), [("", False, True), ("", True, False), ("a.rule", False, False)])
def test_gate_says_whether_the_name_of_a_block_is_verified(office: Office, rule: str, signs: bool, typed: bool) -> None:
    """Of the image, and of a base."""
    block = decision(Act.BLOCK).model_copy(update={"rule": rule})
    block = signed(block, office.ann) if signs else block
    facts = deploy_facts(blocked_bases={f"docker.io/library/Python@{DIGEST}": block})
    facts = replace(facts, status=facts.status.model_copy(update={"block": block}))
    values = make_fact_values(facts, people(office))

    for each in (values["block"], *values["blocked_bases"]):
        assert each["text"] == "by ann on 2026-11-24 12:00 UTC: so" + (" (unverified name)" if typed else "")


def test_signature_of_a_decision_is_not_longer_than_64_kib() -> None:
    """A longer one is none that cosign makes."""
    values = decision(Act.BLOCK).model_dump()
    assert LifecycleDecision.model_validate(values | {"signature": "x" * 65536})
    with pytest.raises(ValueError, match="signature"):
        LifecycleDecision.model_validate(values | {"signature": "x" * 65537})


def test_decision_that_would_not_count_is_refused_with_its_reason() -> None:
    """The remedy says that nothing was signed."""
    error = make_uncounted_error("ann may not block")

    assert error.message.startswith("The decision would not count: ann may not block.\n")
    assert "Nothing was signed into the evidence." in error.message
