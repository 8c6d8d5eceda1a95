"""What is due at the intake gate, by what is signed about the images in `dev/*`."""

from datetime import timedelta

import pytest

from supply_chain.evidence.image_status import image_status_repository
from supply_chain.evidence.statement import BUNDLE, LIFECYCLE, PROVENANCE
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.tier import Gate, TierName
from supply_chain.promotion import offered


def test_an_offered_image_goes_to_curation(chain):
    """That is what a push is for."""
    chain.offer(1)

    assert chain.to_curation(1).to == "curation"


def test_an_image_without_provenance_may_still_get_it(chain):
    """Whoever builds it pushes first and signs then; nothing was decided, so that the next look decides."""
    chain.offer(1, signed=False)

    move = chain.to_curation(1)
    assert (move.to, move.waits) == ("", True)


@pytest.mark.parametrize(
    ("gate", "why"), [(Gate.INTAKE, "the intake gate: x.y"), (Gate.RELEASE, "the release gate: x.y")]
)
def test_an_image_that_was_refused_stays_where_it_is(chain, gate, why):
    """A second event asks no gate again."""
    chain.offer(1)
    chain.judge(1, gate, "x.y")

    move = chain.to_curation(1)
    assert (move.to, move.waits) == ("", False)
    assert why in move.why


def test_a_refusal_after_it_was_vended_counts(chain):
    """The last word is a no."""
    chain.offer(1)
    chain.release(1)
    chain.judge(1, Gate.INTAKE, "x.y", hour=1)

    assert "refused" in chain.to_curation(1).why


def test_an_image_that_is_vended_is_not_curated_again(chain):
    """An event that comes twice changes nothing."""
    chain.offer(1)
    chain.release(1)

    assert chain.to_curation(1).why == "it is released"


def test_what_a_run_left_halfway_is_taken_up_again(chain):
    """Admitted and stored, and the run that did it ended before it signed."""
    chain.offer(1)
    chain.judge(1, Gate.INTAKE)

    assert chain.to_curation(1).to == "curation"


def test_only_the_newest_offered_image_goes_on(chain):
    """A late event of an old push brings nothing old back."""
    chain.offer(1)
    chain.offer(2)

    assert "was pushed after it" in chain.to_curation(1).why
    assert chain.to_curation(2).to == "curation"


def test_what_nobody_signed_holds_nothing_up(chain):
    """Whoever may push cannot keep a signed image from going on."""
    chain.offer(1)
    for number in range(2, 30):
        chain.offer(number, signed=False)

    assert chain.to_curation(1).to == "curation"
    assert [(move.image, move.to) for move in chain.missed()] == [(chain.dev(1), "curation")]
    assert chain.to_curation(2).waits


def test_where_too_much_is_unsigned_it_is_told(chain, monkeypatch):
    """A look has to end somewhere; what was signed before may lie behind that."""
    monkeypatch.setattr(offered, "RECENT", 3)
    chain.offer(1)
    for number in range(2, 6):
        chain.offer(number, signed=False)

    assert "development signed none of the 3 images of dev/hello" in chain.to_curation(1).why
    ((image, why, unreadable),) = [(move.image, move.why, move.unreadable) for move in chain.missed()]
    assert (image, unreadable) == (chain.dev(5), True) and "none of the 3" in why


def test_what_nobody_can_pull_is_not_curated(chain):
    """It was removed, or is archived, since it was announced."""
    chain.offer(2)

    assert "can be pulled" in chain.to_curation(1).why


@pytest.mark.parametrize(("acts", "goes"), [(("block",), False), (("block", "unblock"), True)])
def test_what_was_blocked_before_it_was_curated_goes_on_once_that_is_lifted(chain, acts, goes):
    """Nobody has to push it again."""
    chain.offer(1)
    chain.judge(1, Gate.INTAKE, "image.blocked")
    for number, act in enumerate(acts):
        at = (chain.make.noon + timedelta(seconds=number)).isoformat()
        said = {"act": act, "by": "ann", "why": "a key in it", "at": at}
        chain.pieces.attach(image_status_repository(chain.dev(1)), TierName.LIFECYCLE, LIFECYCLE, said)

    assert (chain.to_curation(1).to == "curation") is goes


def test_a_push_stands_for_every_push_before_it(chain):
    """What nobody signed was pushed last: the newest that development signed goes on in its place."""
    chain.offer(1)
    chain.offer(2)
    chain.offer(3, signed=False)

    for pushed in (1, 2, 3):
        assert (chain.newest(pushed).image, chain.newest(pushed).to) == (chain.dev(2), "curation")


def test_a_push_of_an_application_that_offered_nothing_waits_for_evidence(chain):
    """As it would alone."""
    chain.offer(1, signed=False)

    assert chain.newest(1).waits


def test_a_shallow_look_finds_what_was_pushed_lately_and_tells_nothing_of_the_rest(chain, monkeypatch):
    """Who pushes a thousand images that nobody signed holds nobody else's up: a full look finds what is behind them."""
    monkeypatch.setattr(offered, "SHALLOW", 3)
    chain.offer(1)
    chain.offer(2, signed=False)
    assert [move.image for move in chain.missed(shallow=True)] == [chain.dev(1)]

    for number in range(3, 6):
        chain.offer(number, signed=False)
    assert chain.missed(shallow=True) == ()
    assert [move.image for move in chain.missed()] == [chain.dev(1)]


def test_an_image_under_much_junk_holds_nobody_up_and_is_decided_by_the_full_look(chain, monkeypatch):
    """A shallow look leaves it alone, and tells nothing of it."""
    monkeypatch.setattr(offered, "SHALLOW_JUNK", 5)
    chain.offer(1)
    for number in range(6):
        chain.pieces.world.registry.attach(
            chain.dev(1), BUNDLE, f"junk {number}".encode(), {PREDICATE: PROVENANCE, "n": str(number)}
        )

    assert chain.missed(shallow=True) == ()
    assert [(move.image, move.to) for move in chain.missed()] == [(chain.dev(1), "curation")]
