"""Verdicts: the last one of a gate about a digest counts, and where two are equal, the no."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.summary import latest_of, passed, summary
from supply_chain.image import ImageRef
from supply_chain.tier import Boundary

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
REASON = {"code": "scan.high", "fact": "f", "remedy": "r"}


def verdict(yes=True, at=NOON, boundary=Boundary.CURATION, ref=IMAGE):
    return summary(ref, boundary, "sha256:" + "9" * 64, reasons=[] if yes else [REASON], notes=(), inputs=(), now=at)


def last(*summaries):
    return latest_of(summaries, Boundary.CURATION, DIGEST)


def test_a_summary_without_reasons_passes_and_one_with_reasons_does_not():
    """SLSA VSA v1: PASSED or FAILED, and no level for what failed."""
    yes, no = verdict(), verdict(yes=False)

    assert passed(yes) and not passed(no) and not passed(None)
    assert (no["verificationResult"], no["verifiedLevels"], no["cscm"]["reasons"]) == ("FAILED", [], [REASON])
    assert yes["resourceUri"] == str(IMAGE)
    assert yes["policy"]["digest"] == {"sha256": "9" * 64}


@pytest.mark.parametrize("later", [timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=400)])
def test_a_later_no_outweighs_an_earlier_yes_and_the_other_way_round(later):
    """In whatever order they are found."""
    yes, no = verdict(at=NOON), verdict(yes=False, at=NOON + later)
    assert not passed(last(yes, no)) and not passed(last(no, yes))

    no, yes = verdict(yes=False, at=NOON), verdict(at=NOON + later)
    assert passed(last(yes, no)) and passed(last(no, yes))


def test_of_two_verdicts_at_one_instant_the_no_counts():
    """In doubt nothing is admitted."""
    yes, no = verdict(), verdict(yes=False)

    assert not passed(last(yes, no)) and not passed(last(no, yes))


def test_instants_are_compared_not_their_spelling():
    """13:30 in a zone one hour ahead comes after noon UTC, but sorts before 14:00 in one two hours ahead."""
    yes = verdict(at=NOON.astimezone(timezone(timedelta(hours=2))))
    no = verdict(yes=False, at=(NOON + timedelta(minutes=30)).astimezone(timezone(timedelta(hours=1))))

    assert not passed(last(yes, no))


def test_another_gates_or_another_images_verdict_does_not_count():
    """Boundary 1 says nothing about curation, and another digest nothing about this one."""
    elsewhere = ImageRef(repository="dev/hello", digest="sha256:" + "b" * 64)

    assert last(verdict(boundary=Boundary.TO_CURATION), verdict(ref=elsewhere)) is None
    assert last() is None


@pytest.mark.parametrize(
    "change",
    [{"timeVerified": "rubbish"}, {"timeVerified": None}, {"timeVerified": "2026-11-24T12:00:00"}, {"timeVerified": 7}],
    ids=str,
)
def test_a_signed_verdict_whose_time_nobody_can_read_raises(change):
    """It may be the last one, and may have said no."""
    with pytest.raises(EvidenceInvalid):
        last(verdict(), {**verdict(yes=False), **change})


def test_an_error_tells_the_first_of_a_long_time():
    """A statement can be of any size; a message is not."""
    with pytest.raises(EvidenceInvalid) as caught:
        last({**verdict(), "timeVerified": "#" * 1000})

    assert str(caught.value).count("#") == 100


@pytest.mark.parametrize("change", [{"verifier": None}, {"verifier": "x"}, {"verifier": {"id": 7}}, {"resourceUri": 1}])
def test_a_summary_of_somebody_elses_form_is_not_ours(change):
    """Other verifiers may leave theirs beside the image."""
    assert last({**verdict(), **change}) is None


@pytest.mark.parametrize("word", ["passed", "PASSED ", None, True, ["PASSED"]])
def test_only_the_word_passed_passes(word):
    """Anything else is no yes."""
    assert not passed({**verdict(), "verificationResult": word})
