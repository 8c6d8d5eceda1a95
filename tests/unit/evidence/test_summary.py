"""Verdicts: the last one of a gate about a digest counts, and where two are equal, the no."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import SIGNATURE, SUMMARY, VerifiedStatement, about
from supply_chain.evidence.summary import Summary, is_vended, last_verdict, summary
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
REASON = {"code": "scan.high", "fact": "f", "remedy": "r"}


def verdict(yes=True, at=NOON, gate=Gate.RELEASE, ref=IMAGE):
    reasons = [] if yes else [REASON]
    said = summary(ref, gate, "sha256:" + "9" * 64, reasons=reasons, notes=(), inputs=(), now=at)
    return said.predicate()


def signed(predicate, kind=SUMMARY):
    statement = about(IMAGE, kind, predicate)
    return VerifiedStatement(
        digest="sha256:" + "c" * 64, repository="curated/hello", statement=statement, signer="curation"
    )


def last(*verdicts):
    return last_verdict([signed(each) for each in verdicts], Gate.RELEASE, DIGEST)


def passed(found):
    return found.value.passed


def test_a_summary_without_reasons_passes_and_one_with_reasons_does_not():
    """SLSA VSA v1: PASSED or FAILED, and no level for what failed."""
    yes, no = verdict(), verdict(yes=False)

    assert passed(last(yes)) and not passed(last(no))
    assert (no["verificationResult"], no["verifiedLevels"], no["cscm"]["reasons"]) == ("FAILED", ["FAILED"], [REASON])
    assert yes["resourceUri"] == str(IMAGE)
    assert yes["policy"] == {"uri": "urn:cscm:policy:release", "digest": {"sha256": "9" * 64}}


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
    """The intake gate says nothing about curation, and another digest nothing about this one."""
    elsewhere = ImageRef(repository="dev/hello", digest="sha256:" + "b" * 64)

    assert last(verdict(gate=Gate.INTAKE), verdict(ref=elsewhere)) is None
    assert last() is None


@pytest.mark.parametrize(
    "change",
    [
        {"timeVerified": "rubbish"},
        {"timeVerified": None},
        {"timeVerified": "2026-11-24T12:00:00"},
        {"timeVerified": 0},
        {"timeVerified": 1700000000},
        {"timeVerified": "1700000000"},
        {"verificationResult": "passed"},
        {"verificationResult": "PASSED "},
        {"verificationResult": None},
        {"verificationResult": True},
        {"verificationResult": ["PASSED"]},
        {"policy": None},
        {"cscm": {}},
    ],
    ids=str,
)
def test_a_signed_verdict_that_nobody_can_read_raises(change):
    """It may be the last one, and may have said no."""
    with pytest.raises(EvidenceInvalid, match="curation signed curated/hello@sha256:c"):
        last(verdict(), {**verdict(yes=False), **change})


@pytest.mark.parametrize("change", [{"verifier": None}, {"verifier": "x"}, {"verifier": {"id": 7}}, {"resourceUri": 1}])
def test_a_summary_of_somebody_elses_form_is_not_ours(change):
    """Other verifiers may leave theirs beside the image."""
    assert last({**verdict(), **change}) is None


def test_a_gate_that_says_more_of_itself_is_still_that_gate():
    """SLSA's verifier may have a version; its no counts."""
    later = verdict(yes=False, at=NOON + timedelta(hours=1))

    assert not passed(last(verdict(), {**later, "verifier": {**later["verifier"], "version": {}}}))


def test_two_say_the_same_whenever_they_say_it():
    """And not where anything else differs."""
    first, later = (Summary.model_validate(verdict(at=NOON + timedelta(hours=n))) for n in (0, 1))
    other = Summary.model_validate(verdict(yes=False))

    assert first != later and first.says_the_same_as(later) and later.says_the_same_as(first)
    assert not first.says_the_same_as(other)


@pytest.mark.parametrize("signer", TierName)
@pytest.mark.parametrize("given", [(), (True,), (False,), (True, False), (False, True)], ids=str)
def test_what_curation_signed_and_admitted_last_is_vended(given, signer):
    """Its signature, and the last word of its gate."""
    verdicts = [signed(verdict(yes, at=NOON + timedelta(hours=n))) for n, yes in enumerate(given)]
    signature = signed({}, SIGNATURE).model_copy(update={"signer": signer.value})

    assert not is_vended(verdicts, DIGEST)
    assert is_vended([*verdicts, signature], DIGEST) is (given[-1:] == (True,) and signer is TierName.CURATION)
