"""Approvals: the newest decision about a digest and an environment counts, and it keeps the person's words."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.approval import Approval, date_decision, find_last_approval, list_signed_approvals
from supply_chain.evidence.envelope import parse_keys
from supply_chain.evidence.statement import APPROVAL, VerifiedStatement, make_image_statement
from supply_chain.model.image import ImageRef
from tests.support.builders import DIGEST, NOON, OTHER
from tests.support.present import present
from tests.support.signer import EcdsaSigner

ANN = EcdsaSigner()
WHERE = ImageRef(repository="evidence/execution/hello", digest=DIGEST)


def approval(decision="approved", hour=0, **changes):
    values = {
        "environment": "production",
        "digest": DIGEST,
        "decision": decision,
        "by": "Ada",
        "reason": "it is well",
        "decided": NOON + timedelta(hours=hour),
    }
    return Approval(**{**values, **changes})


def evidence(*approvals):
    return [
        VerifiedStatement(
            digest=DIGEST,
            repository=WHERE.repository,
            statement=make_image_statement(WHERE, APPROVAL, each),
            signer="execution",
        )
        for each in (a if isinstance(a, dict) else a.predicate() for a in approvals)
    ]


def decided(*approvals):
    last = find_last_approval(evidence(*approvals), "production", DIGEST)
    return last and last.value.decision


def test_last_approval_is_the_newest_decision():
    """The order of reading does not matter, and without a decision there is neither approval nor denial."""
    yes, no, again = approval(), approval("denied", 1), approval("approved", 2)

    assert decided() is None
    assert decided(yes) == "approved"
    assert decided(no, yes) == "denied"
    assert decided(again, yes, no) == "approved"


def test_denial_counts_over_approval_at_the_same_time():
    """Nobody can tell which decision came first."""
    assert decided(approval(), approval("denied")) == decided(approval("denied"), approval()) == "denied"


@pytest.mark.parametrize("other", [{"environment": "staging"}, {"digest": OTHER}])
def test_last_approval_ignores_other_environment_or_digest(other):
    """An approval is for one image in one environment."""
    assert decided(approval(**other)) is None


def test_last_approval_raises_for_unreadable_decision():
    """The unreadable decision may be a denial."""
    with pytest.raises(EvidenceInvalid):
        decided(approval(), {"decided": NOON.isoformat(), "decision": "perhaps"})


@pytest.mark.parametrize("empty", [{"by": " "}, {"reason": ""}, {"by": "x" * 1001}])
def test_approval_without_person_or_reason_is_invalid(empty):
    """An approval has to say who decided and why."""
    with pytest.raises(ValidationError):
        approval(**empty)


@pytest.mark.parametrize("word", ["by", "reason"])
def test_approval_text_has_1_to_1000_characters(word):
    """Blank text is invalid too."""
    assert len(getattr(approval(**{word: "x" * 1000}), word)) == 1000
    for wrong in ("x" * 1001, "", "  "):
        with pytest.raises(ValidationError):
            approval(**{word: wrong})


def test_approval_text_shows_decision_environment_person_and_reason():
    """The history of an image shows this sentence."""
    assert str(approval("denied")) == "denied for production by Ada: it is well"


def test_new_decision_gets_later_time_than_earlier_one():
    """Clocks of machines differ; a decision with an earlier time would not count."""
    before = evidence(approval(hour=3), approval(hour=9, environment="staging"))

    signed = date_decision(approval("denied"), before, sent=False)
    assert signed is not None

    assert NOON + timedelta(hours=3) < signed.decided < NOON + timedelta(hours=4)
    assert date_decision(approval(), [], sent=False) == approval()
    assert present(date_decision(approval(), evidence(approval()), sent=False)).decided > NOON


def test_sent_approval_keeps_its_time_and_cannot_supersede_denial():
    """An approval from a form counts from the time it was sent; a denial counts whenever it is read."""
    no = evidence(approval("denied", 1, by="Bob"))

    assert date_decision(approval(), no, sent=True) == approval()
    assert present(date_decision(approval("denied"), evidence(approval(hour=1)), sent=True)).decided > NOON + timedelta(
        hours=1
    )


@pytest.mark.parametrize(
    ("minutes", "decided_last"), [(-6, "approved"), (-5, "approved"), (-4, "denied"), (3, "denied")]
)
def test_denial_near_the_time_of_sent_approval_counts(minutes, decided_last):
    """The clocks of the form and of the signer may differ by five minutes."""
    no = approval("denied", minutes / 60, by="Bob")

    signed = date_decision(approval(), evidence(no), sent=True)
    assert signed is not None

    assert signed.decided <= NOON and decided(no, signed) == decided_last
    assert date_decision(approval(), evidence(no, signed), sent=True) is None
    assert date_decision(approval(), evidence(approval(hour=minutes / 60, by="Bob")), sent=True) == approval()


@pytest.mark.parametrize(("decision", "changed", "again"), [
    ("approved", {}, False), ("denied", {}, False),
    ("denied", {"reason": "another"}, True), ("denied", {"hour": 1}, True),
])  # fmt: skip
def test_sent_decision_is_not_signed_twice(decision, changed, again):
    """A run may stop after it signed a form, and somebody may decide otherwise before the next run."""
    first = date_decision(approval(decision), evidence(approval("approved", 1, by="Ada L.")), sent=True)
    before = evidence(approval("approved", 1, by="Ada L."), first, approval("denied", 2, by="Bob"))

    found = date_decision(approval(decision, **{**changed, "hour": changed.get("hour", 0) * 20}), before, sent=True)

    assert (found is not None) is again
    assert date_decision(approval(decision), evidence(approval(decision)), sent=True) is None


def signed(decision="approved", hour=0, signer=ANN, **changes):
    """Return a decision with the signature of a person."""
    unsigned = approval(decision, hour, **changes)
    return unsigned.model_copy(update={"signature": signer.sign(unsigned.statement(WHERE)).decode()})


def test_decision_is_signed_by_the_key_of_the_person():
    """Whoever holds another key signed nothing."""
    ann, bob = (parse_keys(each.public, "x")[0] for each in (ANN, EcdsaSigner()))

    assert signed().is_signed_by(ann, WHERE) and not signed().is_signed_by(bob, WHERE)
    assert not approval().is_signed_by(ann, WHERE)
    assert not approval(signature="{}").is_signed_by(ann, WHERE)
    assert not approval(signature=ANN.sign_bytes(b"{}").decode()).is_signed_by(ann, WHERE)


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": "staging"},
        {"decision": "denied"},
        {"reason": "other"},
        {"decided": NOON + timedelta(seconds=1)},
        {"digest": OTHER},
    ],
    ids=str,
)
def test_signature_counts_for_no_other_decision(changes):
    """An earlier approval cannot be replayed as a new one."""
    (ann,) = parse_keys(ANN.public, "ann")

    assert not signed().model_copy(update=changes).is_signed_by(ann, WHERE.with_digest(changes.get("digest", DIGEST)))


def test_signature_of_other_statement_does_not_sign_approval():
    """A person's key may sign other things with the same words."""
    (ann,) = parse_keys(ANN.public, "ann")
    other = approval().statement(WHERE).model_copy(update={"predicate_type": "urn:other"})
    elsewhere = approval().statement(WHERE.with_repository("evidence/execution/other"))

    for statement in (other, elsewhere):
        assert not approval(signature=ANN.sign(statement).decode()).is_signed_by(ann, WHERE)
    curated = approval().statement(WHERE.with_repository("curated/hello"))
    assert approval(signature=ANN.sign(curated).decode()).is_signed_by(ann, WHERE), "the same application"


def test_signed_approvals_are_those_since_the_last_denial():
    """Oldest first, without those in a form, of other environments and of other images."""
    first, denial, second, third = signed(), approval("denied", 1), signed(hour=2), signed(hour=3)
    form, elsewhere = approval(hour=4), signed(hour=5, environment="staging")

    def read(*decisions):
        return list_signed_approvals(evidence(*decisions), "production", DIGEST)

    assert read() == read(form, elsewhere, signed(digest=OTHER)) == ()
    assert read(third, first, form, elsewhere, second, denial) == (second, third)
    assert read(first, second) == (first, second)
    assert read(approval("denied"), first) == (), "a denial at the same time counts"


def test_signature_is_not_longer_than_64_kib():
    """A longer one is none that cosign makes."""
    assert approval(signature="x" * 65536)
    with pytest.raises(ValidationError):
        approval(signature="x" * 65537)
