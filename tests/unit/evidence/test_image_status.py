"""The image status comes from the newest statement of the lifecycle's key, and from no other signer."""

from copy import deepcopy
from datetime import timedelta

import pytest

from supply_chain.errors import ClockWrong, EvidenceInvalid, SettingInvalid
from supply_chain.evidence.image_status import (
    Act,
    ImageStatus,
    compute_image_status,
    locate_image_status,
    read_blocks,
    read_decisions,
    read_image_status,
    sign_decision,
)
from supply_chain.evidence.statement import BUNDLE, LIFECYCLE
from supply_chain.evidence.store import EvidenceStore, Referrer
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.present import present

IMAGE = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
PLACE = ImageRef(repository="evidence/lifecycle/hello", digest=IMAGE.digest)


@pytest.fixture
def say(world, make):
    """Return a function that signs a decision `at` seconds after noon, as `signer`, without any check."""

    def sign(act, at=0, signer=TierName.LIFECYCLE, change=None):
        when = make.noon + timedelta(seconds=at)
        predicate = {"act": act, "by": "ann", "reason": "CVE-2026-1", "at": when.isoformat(), **(change or {})}
        signed = {k: v for k, v in predicate.items() if v is not None}
        return world.store(signer).attach(PLACE, LIFECYCLE, signed, when)

    return sign


@pytest.fixture
def stands(world):
    """Return a function that reads the image status as a tier."""
    return lambda tier=TierName.EXECUTION, ref=IMAGE: compute_image_status(
        read_image_status(ref, world.store(tier)).evidence
    )


@pytest.fixture
def decide(world, make):
    """Return a function that signs a decision as the lifecycle does, and returns its digest."""

    def decided(act, at=0, by="ann", reason="CVE-2026-1", **rule):
        when, store = make.noon + timedelta(seconds=at), world.store(TierName.LIFECYCLE)
        return sign_decision(IMAGE, act, store, world.ecr, by=by, reason=reason, now=when, **rule)

    return decided


def test_image_without_decision_has_empty_status(stands):
    """The repository for decisions need not exist."""
    assert stands() == ImageStatus()


@pytest.mark.parametrize(("act", "name"), [(Act.BLOCK, "block"), (Act.HOLD, "hold")])
def test_signed_decision_sets_image_status_for_every_tier(world, decide, stands, make, act, name):
    """It names person, reason and time, and its repository has immutable tags."""
    world.registry.create_on_push = False

    digest = decide(act)

    both = ("evidence/lifecycle/digests",) if act is Act.BLOCK else ()
    assert digest and world.ecr.repositories("") == (*both, "evidence/lifecycle/hello")
    assert all(map(world.ecr.is_immutable, world.ecr.repositories("")))
    for tier in TierName:
        found = stands(tier)
        other = {"block": found.hold, "hold": found.block}[name]
        decision = getattr(found, name)
        assert (decision.act, decision.by, decision.reason, decision.at, other) == (
            act,
            "ann",
            "CVE-2026-1",
            make.noon,
            None,
        )
        assert str(decision) == "by ann on 2026-11-24 12:00 UTC: CVE-2026-1"
        assert decision.rule == "", "a person decided it"


def test_decision_of_a_rule_names_the_rule(decide, stands):
    """A rule may end what a rule began, but not what a person decided."""
    decide(Act.BLOCK, by="the rules nightly", rule="block.refused")

    assert stands().block.rule == "block.refused"


def test_block_by_person_supersedes_block_by_rule(decide, stands):
    """The order of the two does not matter, until somebody unblocks the image."""
    assert decide(Act.BLOCK, by="the rules nightly", rule="block.refused")
    assert decide(Act.BLOCK, at=1, by="the rules nightly", rule="block.refused") is None
    assert decide(Act.BLOCK, at=2, by="ann") and decide(Act.BLOCK, at=3, by="bob") is None

    assert (stands().block.by, stands().block.rule) == ("ann", "")
    assert decide(Act.BLOCK, at=4, by="the rules nightly", rule="block.refused") is None
    decide(Act.UNBLOCK, at=5, by="ann")
    decide(Act.BLOCK, at=6, by="the rules nightly", rule="block.refused")
    assert (stands().block.by, stands().block.rule) == ("the rules nightly", "block.refused")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_block_by_person_counts_over_concurrent_block_by_rule(say, stands, at):
    """Both signers had read that the image was not blocked."""
    say(Act.BLOCK, at=1, change={"by": "the rules", "rule": "block.refused"})
    say(Act.BLOCK, at=at)

    assert (stands().block.by, stands().block.rule) == ("ann", "")


def test_newest_block_after_last_unblock_counts(say, stands):
    """A block at the same time as an unblock counts as after it."""
    say(Act.BLOCK, at=0, change={"by": "early"})
    say(Act.UNBLOCK, at=1)
    say(Act.BLOCK, at=1, change={"by": "the rules", "rule": "block.refused"})
    assert stands().block.by == "the rules"
    say(Act.BLOCK, at=2, change={"by": "first"})
    say(Act.BLOCK, at=3, change={"by": "second"})
    assert stands().block.by == "second"
    say(Act.UNBLOCK, at=4)
    say(Act.BLOCK, at=5, change={"by": "the rules", "rule": "block.refused"})
    assert stands().block.by == "the rules"


def test_repeated_hold_is_not_signed_again(decide):
    """A second hold changes nothing."""
    decide(Act.BLOCK, rule="block.refused")

    assert decide(Act.HOLD, at=1) and decide(Act.HOLD, at=2) is None


def test_block_holds_for_digest_in_every_repository(decide, stands):
    """The same digest may be offered again by development or under another application."""
    decide(Act.BLOCK)

    assert stands(ref=IMAGE.with_repository("dev/hello")).block
    assert stands(ref=IMAGE.model_copy(update={"digest": "sha256:" + "b" * 64})) == ImageStatus()
    assert stands(ref=IMAGE.with_repository("curated/other")).block, "whatever else its digest is called"


def test_block_in_two_repositories_counts_once_as_evidence(decide, world):
    """A verdict lists the statements that it rests on."""
    decide(Act.BLOCK)

    assert len(read_image_status(IMAGE, world.store(TierName.CURATION)).evidence) == 1


def test_hold_is_for_one_application(decide, stands):
    """Another application decides itself what to keep."""
    decide(Act.HOLD)

    assert stands(ref=IMAGE.with_repository("curated/other")) == ImageStatus()


def test_unblock_under_one_name_unblocks_every_name(decide, stands, world, make):
    """A block is for the digest."""
    decide(Act.BLOCK)
    other = IMAGE.with_repository("curated/other")
    sign_decision(other, Act.UNBLOCK, world.store(TierName.LIFECYCLE), world.ecr, by="ann", reason="x", now=make.noon)

    assert stands().block is None and stands(ref=other).block is None


@pytest.mark.parametrize("act", [Act.BLOCK, Act.UNBLOCK])
def test_block_in_one_repository_is_completed_in_the_other(decide, say, stands, world, act):
    """A signer may stop between the two; the first signer remains."""
    if act is Act.UNBLOCK:
        decide(Act.BLOCK)
    say(act, at=1, change={"by": "bob"})
    assert decide(act, at=2) and decide(act, at=3) is None

    by_digest = compute_image_status(read_blocks(IMAGE.digest, world.store(TierName.EXECUTION)).evidence)
    assert (present(by_digest.block or by_digest.unblock)).by == "bob"


@pytest.mark.parametrize(("act", "undo", "name"), [(Act.BLOCK, Act.UNBLOCK, "block"), (Act.HOLD, Act.UNHOLD, "hold")])
def test_newest_decision_of_a_kind_counts(say, stands, act, undo, name):
    """The order of attachment does not matter, and a block does not affect a hold."""
    say(undo, at=3)
    say(act, at=2)
    say(Act.HOLD if act is Act.BLOCK else Act.BLOCK, at=1)

    found = stands()
    assert getattr(found, name) is None
    assert (found.unblock.act if found.unblock else None) == (Act.UNBLOCK if name == "block" else None)
    assert (found.hold if name == "block" else found.block) is not None

    say(act, at=4)

    found = stands()
    assert getattr(found, name) and found.unblock is None


@pytest.mark.parametrize(("act", "undo", "name"), [(Act.BLOCK, Act.UNBLOCK, "block"), (Act.HOLD, Act.UNHOLD, "hold")])
@pytest.mark.parametrize("first", [True, False])
def test_safer_decision_counts_at_the_same_time(say, stands, act, undo, name, first):
    """A block or hold counts over its end, in any order of reading."""
    for each in (act, undo) if first else (undo, act):
        say(each)

    assert getattr(stands(), name).act is act


@pytest.mark.parametrize("signer", [TierName.DEVELOPMENT, TierName.CURATION, TierName.EXECUTION])
def test_only_lifecycle_can_block_unblock_or_hold(say, stands, signer):
    """Statements of other tiers about the image status are ignored."""
    say(Act.BLOCK)
    say(Act.UNBLOCK, at=1, signer=signer)
    say(Act.HOLD, at=1, signer=signer)

    found = stands()
    assert found.block and found.hold is None


def test_invalid_referrer_of_image_status_is_noted(world, say, stands, make):
    """Everyone with push access can attach content there."""
    say(Act.BLOCK)
    world.registry.attach(PLACE, BUNDLE, b"junk", {"dev.sigstore.bundle.predicateType": LIFECYCLE})

    reading = read_image_status(IMAGE, world.store(TierName.EXECUTION))

    assert compute_image_status(reading.evidence).block
    assert reading.notes() == (
        "left out 1 of what is attached to evidence/lifecycle/hello@aaaaaaaaaaaa: 1 × no signed statement",
    )


@pytest.mark.parametrize(
    "change",
    [{"act": "allow"}, {"by": None}, {"by": ""}, {"reason": None}, {"reason": ""}, {"at": None}, {"at": "2026-11-24"}],
    ids=str,
)
def test_unreadable_decision_raises(say, stands, change):
    """It may be a block."""
    say(Act.UNBLOCK, change=change)

    with pytest.raises(EvidenceInvalid):
        stands()


def test_decision_of_the_future_raises(world, say, stands, make):
    """It would supersede every decision until then."""
    world.now = make.noon
    say(Act.UNBLOCK, at=3600)

    with pytest.raises(ClockWrong):
        stands()


def test_reading_status_without_lifecycle_key_raises(world, say):
    """Every block would look like a statement of an unknown signer."""
    say(Act.BLOCK)
    store = world.store(TierName.CURATION)
    trusted = {name: key for name, key in store.trusted.items() if name is not TierName.LIFECYCLE}

    with pytest.raises(SettingInvalid, match=r"The curation tier trusts no key of the lifecycle"):
        read_image_status(IMAGE, EvidenceStore(store.tier, store.referrers, store.signer, trusted, store.now))


def test_reading_status_fetches_only_lifecycle_statements(world, say, monkeypatch):
    """Other referrers cost no request."""
    say(Act.BLOCK)
    other = Referrer(digest="sha256:" + "c" * 64, artifact_type=BUNDLE, annotations={"x": "y"})
    listed = world.registry.referrers
    monkeypatch.setattr(world.registry, "referrers", lambda subject: (*listed(subject), other))

    assert len(read_decisions(read_image_status(IMAGE, world.store(TierName.CURATION)).evidence)) == 1


@pytest.mark.parametrize(
    ("before", "act"),
    [
        ((), Act.UNBLOCK),
        ((), Act.UNHOLD),
        ((Act.BLOCK,), Act.BLOCK),
        ((Act.HOLD,), Act.HOLD),
        ((Act.BLOCK, Act.UNBLOCK), Act.UNBLOCK),
        ((Act.HOLD,), Act.UNBLOCK),
        ((Act.BLOCK,), Act.UNHOLD),
    ],
)
def test_decision_that_changes_nothing_is_not_signed(world, decide, before, act):
    """No repository is created either."""
    for at, each in enumerate(before):
        decide(each, at)
    repositories = deepcopy(world.registry.repositories)

    assert decide(act, 9, by="bob", reason="again") is None
    assert world.registry.repositories == repositories


def test_person_and_reason_need_one_character(decide, stands):
    """The project does not judge how much a person writes."""
    decide(Act.BLOCK, by="a", reason="b")

    assert (stands().block.by, stands().block.reason) == ("a", "b")


def test_image_can_be_blocked_again_after_unblock(decide, stands):
    """The new block has its own reason."""
    decide(Act.BLOCK)
    decide(Act.UNBLOCK, 1)
    digest = decide(Act.BLOCK, 2, reason="another")

    assert digest and stands().block.reason == "another"


def test_decision_after_clock_set_back_is_the_newest(decide, stands, make):
    """Its time is moved one microsecond after the last decision."""
    decide(Act.BLOCK, 60)
    decide(Act.UNBLOCK, 0)

    assert stands().block is None

    decide(Act.BLOCK, 0)

    assert stands().block.at == make.noon + timedelta(seconds=60, microseconds=2)


def test_image_status_repository_belongs_to_lifecycle():
    """No other tier writes there."""
    assert locate_image_status(IMAGE) == PLACE
    assert locate_image_status(ImageRef(repository="dev/base/python", digest=IMAGE.digest)).repository == (
        "evidence/lifecycle/base/python"
    )
