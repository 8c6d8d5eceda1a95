"""Approvals: the last word about a digest in an environment counts, and a person's words are kept as told."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.approval import Approval, last_approval, to_sign
from supply_chain.evidence.statement import APPROVAL, VerifiedStatement, about
from supply_chain.model.image import ImageRef
from tests.unit.conftest import DIGEST, NOON, OTHER

WHERE = ImageRef(repository="evidence/execution/hello", digest=DIGEST)


def approval(decision="approved", hour=0, **changes):
    values = {
        "environment": "production",
        "digest": DIGEST,
        "decision": decision,
        "who": "Ada",
        "why": "it is well",
        "decided": NOON + timedelta(hours=hour),
    }
    return Approval(**{**values, **changes})


def evidence(*said):
    return [
        VerifiedStatement(
            digest=DIGEST, repository=WHERE.repository, statement=about(WHERE, APPROVAL, each), signer="execution"
        )
        for each in (a if isinstance(a, dict) else a.predicate() for a in said)
    ]


def decided(*said):
    last = last_approval(evidence(*said), "production", DIGEST)
    return last and last.value.decision


def test_the_last_word_counts():
    """Whatever the order in which they are read; nobody's word is neither yes nor no."""
    yes, no, again = approval(), approval("denied", 1), approval("approved", 2)

    assert decided() is None
    assert decided(yes) == "approved"
    assert decided(no, yes) == "denied"
    assert decided(again, yes, no) == "approved"


def test_of_two_at_one_instant_the_no_counts():
    """Nobody can tell which was first."""
    assert decided(approval(), approval("denied")) == decided(approval("denied"), approval()) == "denied"


@pytest.mark.parametrize("other", [{"environment": "staging"}, {"digest": OTHER}])
def test_a_word_about_another_environment_or_digest_is_none_about_this(other):
    """One approval is for one image in one place."""
    assert decided(approval(**other)) is None


def test_one_that_cannot_be_read_may_say_no():
    """So nothing is decided while it lies there."""
    with pytest.raises(EvidenceInvalid):
        decided(approval(), {"decided": NOON.isoformat(), "decision": "perhaps"})


@pytest.mark.parametrize("empty", [{"who": " "}, {"why": ""}, {"who": "x" * 1001}])
def test_who_and_why_are_told(empty):
    """An approval that says neither is none."""
    with pytest.raises(ValidationError):
        approval(**empty)


@pytest.mark.parametrize("word", ["who", "why"])
def test_a_word_has_an_end(word):
    """A thousand characters, and something in them."""
    assert len(getattr(approval(**{word: "x" * 1000}), word)) == 1000
    for wrong in ("x" * 1001, "", "  "):
        with pytest.raises(ValidationError):
            approval(**{word: wrong})


def test_a_decision_is_told_in_a_sentence():
    """For whoever asks what happened to an image."""
    assert str(approval("denied")) == "denied for production by Ada: it is well"


def test_what_is_said_now_is_later_than_what_was_said_before():
    """Two machines whose clocks differ: a no of an earlier time would not be heard; a yes to another place is none."""
    before = evidence(approval(hour=3), approval(hour=9, environment="staging"))

    said = to_sign(approval("denied"), before, sent=False)

    assert NOON + timedelta(hours=3) < said.decided < NOON + timedelta(hours=4)
    assert to_sign(approval(), [], sent=False) == approval()
    assert to_sign(approval(), evidence(approval()), sent=False).decided > NOON


def test_a_yes_that_was_sent_long_before_outweighs_nothing_that_was_said_since():
    """Nobody read the form before; a no counts whenever it is read."""
    no = evidence(approval("denied", 1, who="Bob"))

    assert to_sign(approval(), no, sent=True) == approval()
    assert to_sign(approval("denied"), evidence(approval(hour=1)), sent=True).decided > NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("minutes", "decided_last"), [(-6, "approved"), (-5, "approved"), (-4, "denied"), (3, "denied")]
)
def test_a_no_of_about_the_same_time_outweighs_a_yes_that_was_sent(minutes, decided_last):
    """One clock says when the form was sent, another when the no was signed; they may differ by five minutes."""
    no = approval("denied", minutes / 60, who="Bob")

    said = to_sign(approval(), evidence(no), sent=True)

    assert said.decided <= NOON and decided(no, said) == decided_last
    assert to_sign(approval(), evidence(no, said), sent=True) is None
    assert to_sign(approval(), evidence(approval(hour=minutes / 60, who="Bob")), sent=True) == approval()


@pytest.mark.parametrize(("decision", "changed", "again"), [
    ("approved", {}, False), ("denied", {}, False), ("denied", {"why": "another"}, True), ("denied", {"hour": 1}, True),
])  # fmt: skip
def test_what_was_signed_of_a_form_is_not_signed_again(decision, changed, again):
    """The run was killed before it forgot it, and somebody decided otherwise since."""
    first = to_sign(approval(decision), evidence(approval("approved", 1, who="Ada L.")), sent=True)
    before = evidence(approval("approved", 1, who="Ada L."), first, approval("denied", 2, who="Bob"))

    found = to_sign(approval(decision, **{**changed, "hour": changed.get("hour", 0) * 20}), before, sent=True)

    assert (found is not None) is again
    assert to_sign(approval(decision), evidence(approval(decision)), sent=True) is None
