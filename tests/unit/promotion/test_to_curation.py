"""Promotions to curation, planned from signed statements about the images in `dev/*`."""

from datetime import timedelta

import pytest

from supply_chain.evidence.image_status import locate_image_status
from supply_chain.evidence.statement import BUNDLE, LIFECYCLE, PROVENANCE
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.tier import Gate, TierName
from supply_chain.promotion import to_curation


def test_offered_image_moves_to_curation(chain):
    """A push leads to curation."""
    chain.offer(1)

    assert chain.to_curation(1).to == "curation"


def test_image_without_provenance_waits(chain):
    """Builders push first and sign afterwards, so the next look decides."""
    chain.offer(1, signed=False)

    promotion = chain.to_curation(1)
    assert (promotion.to, promotion.awaits_evidence) == ("", True)


@pytest.mark.parametrize(
    ("gate", "why"), [(Gate.INTAKE, "the intake gate: x.y"), (Gate.RELEASE, "the release gate: x.y")]
)
def test_refused_image_stays(chain, gate, why):
    """A second event does not ask the gate again."""
    chain.offer(1)
    chain.judge(1, gate, "x.y")

    promotion = chain.to_curation(1)
    assert (promotion.to, promotion.awaits_evidence) == ("", False)
    assert why in promotion.reason


def test_refusal_after_release_counts(chain):
    """The latest verdict decides."""
    chain.offer(1)
    chain.release(1)
    chain.judge(1, Gate.INTAKE, "x.y", hour=1)

    assert "refused" in chain.to_curation(1).reason


def test_released_image_is_not_curated_again(chain):
    """A duplicate event changes nothing."""
    chain.offer(1)
    chain.release(1)

    assert chain.to_curation(1).reason == "it is released already"


def test_interrupted_curation_is_resumed(chain):
    """The image was admitted, but the run ended before it signed."""
    chain.offer(1)
    chain.judge(1, Gate.INTAKE)

    assert chain.to_curation(1).to == "curation"


def test_only_newest_offered_image_moves(chain):
    """A late event of an old push does not promote the old image."""
    chain.offer(1)
    chain.offer(2)

    assert "was pushed after it" in chain.to_curation(1).reason
    assert chain.to_curation(2).to == "curation"


def test_unsigned_images_do_not_delay_signed_image(chain):
    """Push access alone cannot stop the promotion of a signed image."""
    chain.offer(1)
    for number in range(2, 30):
        chain.offer(number, signed=False)

    assert chain.to_curation(1).to == "curation"
    assert [(promotion.image, promotion.to) for promotion in chain.missed()] == [(chain.dev(1), "curation")]
    assert chain.to_curation(2).awaits_evidence


def test_too_many_unsigned_images_are_reported(chain, monkeypatch):
    """The number of images that are read is limited, and signed images may lie behind the limit."""
    monkeypatch.setattr(to_curation, "RECENT", 3)
    chain.offer(1)
    for number in range(2, 6):
        chain.offer(number, signed=False)

    assert "development signed none of the 3 images of dev/hello" in chain.to_curation(1).reason
    ((image, why, unreadable),) = [
        (promotion.image, promotion.reason, promotion.unreadable) for promotion in chain.missed()
    ]
    assert (image, unreadable) == (chain.dev(5), True) and "none of the 3" in why


def test_missing_image_is_not_curated(chain):
    """It was removed or archived after its event."""
    chain.offer(2)

    assert "cannot be pulled" in chain.to_curation(1).reason


@pytest.mark.parametrize(("acts", "goes"), [(("block",), False), (("block", "unblock"), True)])
def test_image_blocked_before_curation_moves_after_unblock(chain, acts, goes):
    """It does not have to be pushed again."""
    chain.offer(1)
    chain.judge(1, Gate.INTAKE, "image.blocked")
    for number, act in enumerate(acts):
        at = (chain.make.noon + timedelta(seconds=number)).isoformat()
        decision = {"act": act, "by": "ann", "reason": "a key in it", "at": at}
        chain.pieces.attach(locate_image_status(chain.dev(1)), TierName.LIFECYCLE, LIFECYCLE, decision)

    assert (chain.to_curation(1).to == "curation") is goes


def test_push_stands_for_all_earlier_pushes(chain):
    """If the last pushed image is unsigned, the newest signed one is promoted."""
    chain.offer(1)
    chain.offer(2)
    chain.offer(3, signed=False)

    for pushed in (1, 2, 3):
        assert (chain.newest(pushed).image, chain.newest(pushed).to) == (chain.dev(2), "curation")


def test_push_of_application_without_offers_waits_for_evidence(chain):
    """Its evidence may still come."""
    chain.offer(1, signed=False)

    assert chain.newest(1).awaits_evidence


def test_shallow_look_finds_only_recent_images(chain, monkeypatch):
    """A full look finds images behind many unsigned ones, so these delay no other application."""
    monkeypatch.setattr(to_curation, "SHALLOW", 3)
    chain.offer(1)
    chain.offer(2, signed=False)
    assert [promotion.image for promotion in chain.missed(shallow=True)] == [chain.dev(1)]

    for number in range(3, 6):
        chain.offer(number, signed=False)
    assert chain.missed(shallow=True) == ()
    assert [promotion.image for promotion in chain.missed()] == [chain.dev(1)]


def test_shallow_look_skips_image_with_much_junk(chain, monkeypatch):
    """Only the full look decides on such an image, so that it delays no other."""
    monkeypatch.setattr(to_curation, "SHALLOW_JUNK", 5)
    chain.offer(1)
    for number in range(6):
        chain.pieces.world.registry.attach(
            chain.dev(1), BUNDLE, f"junk {number}".encode(), {PREDICATE: PROVENANCE, "n": str(number)}
        )

    assert chain.missed(shallow=True) == ()
    assert [(promotion.image, promotion.to) for promotion in chain.missed()] == [(chain.dev(1), "curation")]
