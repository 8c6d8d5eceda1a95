"""How an image stands: by the newest word that the lifecycle's key signed, and by nobody else's."""

from datetime import timedelta

import pytest

from supply_chain.errors import ClockWrong, EvidenceInvalid, SettingInvalid
from supply_chain.evidence.image_status import (
    Act,
    ImageStatus,
    image_status,
    image_status_repository,
    read_blocks,
    read_decisions,
    read_image_status,
    sign_decision,
)
from supply_chain.evidence.statement import BUNDLE, LIFECYCLE
from supply_chain.evidence.store import EvidenceStore, Referrer
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName

IMAGE = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
PLACE = ImageRef(repository="evidence/lifecycle/hello", digest=IMAGE.digest)


class Repositories(dict):
    """Those that were made."""

    def ensure_repository(self, repository, *, immutable, key):
        self[repository] = (immutable, key)


@pytest.fixture
def say(world, make):
    """Say something of the image, `at` seconds after noon, as `signer`."""

    def said(act, at=0, signer=TierName.LIFECYCLE, change=None):
        when = make.noon + timedelta(seconds=at)
        predicate = {"act": act, "by": "ann", "why": "CVE-2026-1", "at": when.isoformat(), **(change or {})}
        told = {k: v for k, v in predicate.items() if v is not None}
        return world.store(signer).attach(PLACE, LIFECYCLE, told, when)

    return said


@pytest.fixture
def stands(world):
    """How the image stands for whoever asks."""
    return lambda tier=TierName.EXECUTION, ref=IMAGE: image_status(read_image_status(ref, world.store(tier)).evidence)


@pytest.fixture
def decide(world, make):
    """Decide something as the lifecycle does."""

    def decided(act, at=0, by="ann", why="CVE-2026-1", **of):
        repositories = Repositories()
        store = world.store(TierName.LIFECYCLE)
        digest = sign_decision(
            IMAGE, act, store, repositories, by=by, why=why, now=make.noon + timedelta(seconds=at), **of
        )
        return digest, repositories

    return decided


def test_of_what_nobody_said_anything_nothing_is_in_force(stands):
    """Its repository was never made."""
    assert stands() == ImageStatus()


@pytest.mark.parametrize(("act", "name"), [(Act.BLOCK, "block"), (Act.HOLD, "hold")])
def test_what_is_decided_is_in_force_for_every_tier_with_who_why_and_when(decide, stands, make, act, name):
    """In a repository that is made so that nothing in it moves."""
    digest, made = decide(act)

    both = {"evidence/lifecycle/digests": (True, None)} if act is Act.BLOCK else {}
    assert digest and made == {"evidence/lifecycle/hello": (True, None), **both}
    for tier in TierName:
        found = stands(tier)
        other = {"block": found.hold, "hold": found.block}[name]
        ruling = getattr(found, name)
        assert (ruling.act, ruling.by, ruling.why, ruling.at, other) == (act, "ann", "CVE-2026-1", make.noon, None)
        assert str(ruling) == "by ann on 2026-11-24 12:00 UTC: CVE-2026-1"
        assert ruling.rule == "", "a person decided it"


def test_what_a_rule_decided_says_which(decide, stands):
    """A rule may end what a rule began, and nothing that a person decided."""
    decide(Act.BLOCK, by="the rules nightly", of="block.refused")

    assert stands().block.rule == "block.refused"


def test_a_person_may_block_what_a_rule_blocked_and_no_rule_ends_that(decide, stands):
    """Whichever was said last; after an unblocking it is over."""
    assert decide(Act.BLOCK, by="the rules nightly", of="block.refused")[0]
    assert decide(Act.BLOCK, at=1, by="the rules nightly", of="block.refused")[0] is None
    assert decide(Act.BLOCK, at=2, by="ann")[0] and decide(Act.BLOCK, at=3, by="bob")[0] is None

    assert (stands().block.by, stands().block.rule) == ("ann", "")
    assert decide(Act.BLOCK, at=4, by="the rules nightly", of="block.refused")[0] is None
    decide(Act.UNBLOCK, at=5, by="ann")
    decide(Act.BLOCK, at=6, by="the rules nightly", of="block.refused")
    assert (stands().block.by, stands().block.rule) == ("the rules nightly", "block.refused")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_of_a_persons_and_a_rules_block_at_about_one_time_the_persons_counts(say, stands, at):
    """Both had read that nothing was said."""
    say(Act.BLOCK, at=1, change={"by": "the rules", "rule": "block.refused"})
    say(Act.BLOCK, at=at)

    assert (stands().block.by, stands().block.rule) == ("ann", "")


def test_the_last_block_of_a_kind_counts_and_none_from_before_an_unblocking(say, stands):
    """At one instant with the unblocking it is of after."""
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


def test_what_a_rule_blocked_is_held_once(decide):
    """Saying it again changes nothing."""
    decide(Act.BLOCK, of="block.refused")

    assert decide(Act.HOLD, at=1)[0] and decide(Act.HOLD, at=2)[0] is None


def test_an_image_stands_the_same_wherever_it_lies(decide, stands):
    """What development offers again is the digest that was blocked; another digest is not."""
    decide(Act.BLOCK)

    assert stands(ref=IMAGE.moved_to("dev/hello")).block
    assert stands(ref=IMAGE.model_copy(update={"digest": "sha256:" + "b" * 64})) == ImageStatus()
    assert stands(ref=IMAGE.moved_to("curated/other")).block, "whatever else its digest is called"


def test_block_counts_once_though_it_is_signed_in_two_places(decide, world):
    """A verdict names the statements that it rests on."""
    decide(Act.BLOCK)

    assert len(read_image_status(IMAGE, world.store(TierName.CURATION)).evidence) == 1


def test_hold_is_of_one_application(decide, stands):
    """Another one decides for itself what it keeps."""
    decide(Act.HOLD)

    assert stands(ref=IMAGE.moved_to("curated/other")) == ImageStatus()


def test_unblock_under_another_name_lifts_the_block_under_all(decide, stands, world, make):
    """The block is of the digest."""
    decide(Act.BLOCK)
    other = IMAGE.moved_to("curated/other")
    sign_decision(other, Act.UNBLOCK, world.store(TierName.LIFECYCLE), Repositories(), by="ann", why="x", now=make.noon)

    assert stands().block is None and stands(ref=other).block is None


@pytest.mark.parametrize("act", [Act.BLOCK, Act.UNBLOCK])
def test_block_that_lies_in_one_place_alone_is_signed_in_the_other_too(decide, say, stands, world, act):
    """Whoever signed it was killed in between, or knew one place only; who said it first is not changed."""
    if act is Act.UNBLOCK:
        decide(Act.BLOCK)
    say(act, at=1, change={"by": "bob"})
    assert decide(act, at=2)[0] and decide(act, at=3)[0] is None

    by_digest = image_status(read_blocks(IMAGE.digest, world.store(TierName.EXECUTION)).evidence)
    assert (by_digest.block or by_digest.excuse).by == "bob"


@pytest.mark.parametrize(("act", "undo", "name"), [(Act.BLOCK, Act.UNBLOCK, "block"), (Act.HOLD, Act.RELEASE, "hold")])
def test_the_newest_counts_and_undoes_nothing_else(say, stands, act, undo, name):
    """Whichever was attached first."""
    say(undo, at=3)
    say(act, at=2)
    say(Act.HOLD if act is Act.BLOCK else Act.BLOCK, at=1)

    found = stands()
    assert getattr(found, name) is None
    assert (found.excuse.act if found.excuse else None) == (Act.UNBLOCK if name == "block" else None)
    assert (found.hold if name == "block" else found.block) is not None

    say(act, at=4)

    found = stands()
    assert getattr(found, name) and found.excuse is None


@pytest.mark.parametrize(("act", "undo", "name"), [(Act.BLOCK, Act.UNBLOCK, "block"), (Act.HOLD, Act.RELEASE, "hold")])
@pytest.mark.parametrize("first", [True, False])
def test_of_two_at_one_instant_the_safe_one_counts(say, stands, act, undo, name, first):
    """In whichever order they are read."""
    for each in (act, undo) if first else (undo, act):
        say(each)

    assert getattr(stands(), name).act is act


@pytest.mark.parametrize("signer", [TierName.DEVELOPMENT, TierName.CURATION, TierName.EXECUTION])
def test_no_tier_lifts_what_the_lifecycle_blocked(say, stands, signer):
    """Nor does it block."""
    say(Act.BLOCK)
    say(Act.UNBLOCK, at=1, signer=signer)
    say(Act.HOLD, at=1, signer=signer)

    found = stands()
    assert found.block and found.hold is None


def test_a_stranger_is_not_heard_and_is_told(world, say, stands, make):
    """Whoever may push there can attach anything."""
    say(Act.BLOCK)
    world.registry.attach(PLACE, BUNDLE, b"junk", {"dev.sigstore.bundle.predicateType": LIFECYCLE})

    reading = read_image_status(IMAGE, world.store(TierName.EXECUTION))

    assert image_status(reading.evidence).block
    assert reading.notes() == (
        "left out 1 of what is attached to evidence/lifecycle/hello@aaaaaaaaaaaa: 1 × no signed statement",
    )


@pytest.mark.parametrize(
    "change",
    [{"act": "allow"}, {"by": None}, {"by": ""}, {"why": None}, {"why": ""}, {"at": None}, {"at": "2026-11-24"}],
    ids=str,
)
def test_a_word_that_cannot_be_read_is_no_permission(say, stands, change):
    """It may have been a block."""
    say(Act.UNBLOCK, change=change)

    with pytest.raises(EvidenceInvalid):
        stands()


def test_a_word_of_the_future_is_an_error(world, say, stands, make):
    """It would count whatever is said meanwhile."""
    world.now = make.noon
    say(Act.UNBLOCK, at=3600)

    with pytest.raises(ClockWrong):
        stands()


def test_who_trusts_no_key_of_the_lifecycle_cannot_tell(world, say):
    """Every block would pass for a stranger's."""
    say(Act.BLOCK)
    whole = world.store(TierName.CURATION)
    trusted = {name: key for name, key in whole.trusted.items() if name is not TierName.LIFECYCLE}

    with pytest.raises(SettingInvalid, match=r"The curation tier trusts no key of the lifecycle"):
        read_image_status(IMAGE, EvidenceStore(whole.tier, whole.referrers, whole.signer, trusted, whole.now))


def test_only_what_says_to_be_such_a_word_is_fetched(world, say, monkeypatch):
    """Whatever else lies there costs nothing."""
    say(Act.BLOCK)
    other = Referrer(digest="sha256:" + "c" * 64, artifact_type=BUNDLE, annotations={"x": "y"})
    listed = world.registry.referrers
    monkeypatch.setattr(world.registry, "referrers", lambda subject: (*listed(subject), other))

    assert len(read_decisions(read_image_status(IMAGE, world.store(TierName.CURATION)).evidence)) == 1


@pytest.mark.parametrize(
    ("before", "act"),
    [
        ((), Act.UNBLOCK),
        ((), Act.RELEASE),
        ((Act.BLOCK,), Act.BLOCK),
        ((Act.HOLD,), Act.HOLD),
        ((Act.BLOCK, Act.UNBLOCK), Act.UNBLOCK),
        ((Act.HOLD,), Act.UNBLOCK),
        ((Act.BLOCK,), Act.RELEASE),
    ],
)
def test_what_stands_already_is_not_said_again(world, decide, before, act):
    """Nothing is written, not even a repository."""
    for at, each in enumerate(before):
        decide(each, at)
    held = {name: dict(there) for name, there in world.registry.held.items()}

    assert decide(act, 9, by="bob", why="again") == (None, {})
    assert world.registry.held == held


def test_a_letter_is_enough_of_a_name_and_of_a_reason(decide, stands):
    """How much is said is theirs to decide."""
    decide(Act.BLOCK, by="a", why="b")

    assert (stands().block.by, stands().block.why) == ("a", "b")


def test_what_was_lifted_can_be_said_again(decide, stands):
    """With its own reason."""
    decide(Act.BLOCK)
    decide(Act.UNBLOCK, 1)
    digest, _ = decide(Act.BLOCK, 2, why="another")

    assert digest and stands().block.why == "another"


def test_a_clock_that_went_back_does_not_make_a_word_unheard(decide, stands, make):
    """What is said last counts, by a microsecond."""
    decide(Act.BLOCK, 60)
    decide(Act.UNBLOCK, 0)

    assert stands().block is None

    decide(Act.BLOCK, 0)

    assert stands().block.at == make.noon + timedelta(seconds=60, microseconds=2)


def test_the_place_is_the_lifecycles_own():
    """Nobody else writes there."""
    assert image_status_repository(IMAGE) == PLACE
    assert image_status_repository(ImageRef(repository="dev/base/python", digest=IMAGE.digest)).repository == (
        "evidence/lifecycle/base/python"
    )
