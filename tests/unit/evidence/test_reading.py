"""Statements as the model's own values: what cannot be read is an error, and what a step rests on is told."""

from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.reading import SignedValue, proof, read_statements
from supply_chain.evidence.statement import SUMMARY, TEST_RESULT, VerifiedStatement, about
from supply_chain.model.image import ImageRef, Source
from tests.unit.conftest import NOON

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)


def evidence(digit, attached=None):
    return VerifiedStatement(
        digest="sha256:" + digit * 64,
        repository=IMAGE.repository,
        statement=about(IMAGE, TEST_RESULT, {}),
        signer="development",
        attached=attached,
    )


def result(*, at=NOON, **said):
    statement = about(IMAGE, TEST_RESULT, {"cscm": {"interval": {"finished": at.isoformat()}}, **said})
    return evidence("c").model_copy(update={"statement": statement})


def word(predicate):
    return predicate["word"]


def test_statements_of_a_type_are_read_the_oldest_first():
    """By the time that was signed, wherever they lie; other types are not asked."""
    new, old = result(at=NOON + timedelta(microseconds=1), word="new"), result(word="old")
    expected = (SignedValue("old", NOON, old), SignedValue("new", NOON + timedelta(microseconds=1), new))

    assert read_statements([new, old], TEST_RESULT, word) == read_statements([old, new], TEST_RESULT, word) == expected
    assert read_statements([new, old], SUMMARY, word) == ()


@pytest.mark.parametrize(
    "read",
    [
        lambda predicate: predicate["declaration"],
        lambda _: int(None),
        lambda _: [].get("declaration"),
        Source.model_validate,
    ],
    ids=["missing", "nothing", "list", "other fields"],
)
def test_what_has_another_form_is_invalid_evidence(read):
    """Whoever signed it used another version; the message says which statement it is, and who signed it."""
    with pytest.raises(EvidenceInvalid, match=r"development signed dev/hello@sha256:c.*test-result.*cannot be read"):
        read_statements([result(word="x")], TEST_RESULT, read)


def test_what_does_not_say_when_it_was_made_is_invalid_evidence():
    """It may be the newest."""
    with pytest.raises(EvidenceInvalid, match="does not say when it was made"):
        read_statements([result(word="x", cscm={})], TEST_RESULT, word)


def test_a_mistake_of_ours_is_no_invalid_evidence():
    """It has to be seen as what it is."""
    with pytest.raises(ZeroDivisionError):
        read_statements([result()], TEST_RESULT, lambda _: 1 // 0)


def test_an_error_tells_the_first_of_a_long_story():
    """A statement can be of any size; a message is not."""

    def read(_):
        raise TypeError("#" * 10_000)

    with pytest.raises(EvidenceInvalid) as caught:
        read_statements([result()], TEST_RESULT, read)

    assert str(caught.value).count("#") == 500


def test_a_proof_names_its_evidence_and_is_as_old_as_the_oldest():
    """In the order it was given."""
    known = [evidence("1", NOON), evidence("2", NOON - timedelta(days=1)), evidence("3", NOON + timedelta(days=1))]

    found = proof(known)

    assert found.evidence == tuple(e.digest for e in known)
    assert found.since == NOON - timedelta(days=1)


def test_a_proof_with_a_part_of_unknown_age_is_of_unknown_age():
    """The part without a time may be the oldest."""
    assert proof([evidence("1", NOON), evidence("2")]).since is None
    assert proof([evidence("1")]).since is None


def test_no_evidence_is_no_proof():
    """Nothing was shown by it."""
    assert proof([]) is None
