"""Verification summaries: the newest verdict of a gate about a digest counts, and a refusal counts at the same time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import SIGNATURE, SUMMARY, VerifiedStatement, make_image_statement
from supply_chain.evidence.summary import Summary, find_last_verdict, is_released, make_summary
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
REASON = {"code": "scan.high", "fact": "f", "remedy": "r"}


def verdict(yes=True, at=NOON, gate=Gate.RELEASE, ref=IMAGE):
    reasons = [] if yes else [REASON]
    statement = make_summary(ref, gate, "sha256:" + "9" * 64, reasons=reasons, notes=(), inputs=(), now=at)
    return statement.predicate()


def signed(predicate, kind=SUMMARY):
    statement = make_image_statement(IMAGE, kind, predicate)
    return VerifiedStatement(
        digest="sha256:" + "c" * 64, repository="curated/hello", statement=statement, signer="curation"
    )


def last(*verdicts):
    return find_last_verdict([signed(each) for each in verdicts], Gate.RELEASE, DIGEST)


def passed(found):
    return found.value.passed


def test_summary_passes_only_without_reasons():
    """SLSA VSA v1 defines PASSED and FAILED, and a failed one states no level."""
    yes, no = verdict(), verdict(yes=False)

    assert passed(last(yes)) and not passed(last(no))
    assert (no["verificationResult"], no["verifiedLevels"], no["cscm"]["reasons"]) == ("FAILED", ["FAILED"], [REASON])
    assert yes["resourceUri"] == str(IMAGE)
    assert yes["policy"] == {"uri": "urn:cscm:policy:release", "digest": {"sha256": "9" * 64}}


@pytest.mark.parametrize("later", [timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=400)])
def test_later_verdict_supersedes_earlier_one(later):
    """The order of reading does not matter."""
    yes, no = verdict(at=NOON), verdict(yes=False, at=NOON + later)
    assert not passed(last(yes, no)) and not passed(last(no, yes))

    no, yes = verdict(yes=False, at=NOON), verdict(at=NOON + later)
    assert passed(last(yes, no)) and passed(last(no, yes))


def test_refusal_counts_over_admission_at_the_same_time():
    """In doubt the image is not admitted."""
    yes, no = verdict(), verdict(yes=False)

    assert not passed(last(yes, no)) and not passed(last(no, yes))


def test_verdict_times_are_compared_as_instants():
    """Times in different zones do not sort as text."""
    yes = verdict(at=NOON.astimezone(timezone(timedelta(hours=2))))
    no = verdict(yes=False, at=(NOON + timedelta(minutes=30)).astimezone(timezone(timedelta(hours=1))))

    assert not passed(last(yes, no))


def test_verdict_of_other_gate_or_image_does_not_count():
    """Each gate judges for itself, about one digest."""
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
def test_unreadable_signed_verdict_raises(change):
    """It may be the newest one, and a refusal."""
    with pytest.raises(EvidenceInvalid, match="curation signed curated/hello@sha256:c"):
        last(verdict(), {**verdict(yes=False), **change})


@pytest.mark.parametrize("change", [{"verifier": None}, {"verifier": "x"}, {"verifier": {"id": 7}}, {"resourceUri": 1}])
def test_summary_of_other_verifier_is_ignored(change):
    """Other verifiers may attach their summaries to the image."""
    assert last({**verdict(), **change}) is None


def test_summary_with_verifier_version_counts():
    """SLSA allows a version of the verifier."""
    later = verdict(yes=False, at=NOON + timedelta(hours=1))

    assert not passed(last(verdict(), {**later, "verifier": {**later["verifier"], "version": {}}}))


def test_summaries_are_equal_except_for_their_time():
    """Any other difference makes two summaries differ."""
    first, later = (Summary.model_validate(verdict(at=NOON + timedelta(hours=n))) for n in (0, 1))
    other = Summary.model_validate(verdict(yes=False))

    assert first != later and first.has_same_content(later) and later.has_same_content(first)
    assert not first.has_same_content(other)


def test_image_is_released_until_its_verdict_ends():
    """The verdict rests on a waiver."""
    end = NOON + timedelta(days=1)
    until = verdict() | {"cscm": {"reasons": [], "notes": [], "waivers": ["zlib"], "expires": end.isoformat()}}
    evidence = [signed(until), signed({}, SIGNATURE)]

    assert is_released(evidence, DIGEST, end - timedelta(seconds=1)) and not is_released(evidence, DIGEST, end)
    intake = signed(until | {"verifier": verdict(gate=Gate.INTAKE)["verifier"]})
    evidence = [signed(verdict()), intake, signed({}, SIGNATURE)]
    assert is_released(evidence, DIGEST, end - timedelta(seconds=1)) and not is_released(evidence, DIGEST, end)


@pytest.mark.parametrize("at", [-1, 1])
def test_image_is_not_released_after_a_refusal_by_the_intake_gate(at):
    """An earlier refusal does not count, if an admission came after it."""
    given = [verdict(at=NOON + timedelta(hours=at), yes=False, gate=Gate.INTAKE), verdict(gate=Gate.INTAKE), verdict()]

    assert is_released([*map(signed, given), signed({}, SIGNATURE)], DIGEST, NOON) is (at < 0)


@pytest.mark.parametrize("signer", TierName)
@pytest.mark.parametrize("given", [(), (True,), (False,), (True, False), (False, True)], ids=str)
def test_image_is_released_if_curation_signed_and_admitted_it_last(given, signer):
    """Both the signature of curation and its newest verdict count."""
    verdicts = [signed(verdict(yes, at=NOON + timedelta(hours=n))) for n, yes in enumerate(given)]
    signature = signed({}, SIGNATURE).model_copy(update={"signer": signer.value})

    assert not is_released(verdicts, DIGEST, NOON)
    assert is_released([*verdicts, signature], DIGEST, NOON) is (given[-1:] == (True,) and signer is TierName.CURATION)
