"""Reading statements as typed values, and the age of the evidence of a step."""

from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.reading import SignedValue, make_proof, read_statements
from supply_chain.evidence.statement import SUMMARY, TEST_RESULT, VerifiedStatement, make_image_statement
from supply_chain.model.image import ImageRef, Source
from tests.support.builders import NOON
from tests.support.present import present

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)


def evidence(digit, attached=None):
    return VerifiedStatement(
        digest="sha256:" + digit * 64,
        repository=IMAGE.repository,
        statement=make_image_statement(IMAGE, TEST_RESULT, {}),
        signer="development",
        attached=attached,
    )


def result(*, at=NOON, **fields):
    statement = make_image_statement(IMAGE, TEST_RESULT, {"cscm": {"interval": {"finished": at.isoformat()}}, **fields})
    return evidence("c").model_copy(update={"statement": statement})


def word(predicate):
    return predicate["word"]


def test_read_statements_returns_oldest_first():
    """The signed time decides, and other statement types are ignored."""
    new, old = result(at=NOON + timedelta(microseconds=1), word="new"), result(word="old")
    expected = (SignedValue("old", NOON, old), SignedValue("new", NOON + timedelta(microseconds=1), new))

    assert read_statements([new, old], TEST_RESULT, word) == read_statements([old, new], TEST_RESULT, word) == expected
    assert read_statements([new, old], SUMMARY, word) == ()


@pytest.mark.parametrize(
    "read",
    [
        lambda predicate: predicate["declaration"],
        lambda _: int(None),  # type: ignore[call-overload]
        lambda _: [].get("declaration"),  # type: ignore[attr-defined]
        Source.model_validate,
    ],
    ids=["missing", "nothing", "list", "other fields"],
)
def test_statement_of_other_form_is_invalid_evidence(read):
    """The message names the statement and its signer."""
    with pytest.raises(EvidenceInvalid, match=r"development signed dev/hello@sha256:c.*test-result.*cannot be read"):
        read_statements([result(word="x")], TEST_RESULT, read)


def test_statement_without_time_is_invalid_evidence():
    """It may be the newest."""
    with pytest.raises(EvidenceInvalid, match="does not say when it was made"):
        read_statements([result(word="x", cscm={})], TEST_RESULT, word)


def test_programming_error_is_not_reported_as_invalid_evidence():
    """A defect of the project must remain visible."""
    with pytest.raises(ZeroDivisionError):
        read_statements([result()], TEST_RESULT, lambda _: 1 // 0)


def test_evidence_error_is_cut_to_500_characters():
    """A statement may be of any size, but a message may not."""

    def read(_):
        raise TypeError("#" * 10_000)

    with pytest.raises(EvidenceInvalid) as caught:
        read_statements([result()], TEST_RESULT, read)

    assert str(caught.value).count("#") == 500


def test_proof_names_evidence_and_oldest_time():
    """The evidence keeps its order."""
    statements = [evidence("1", NOON), evidence("2", NOON - timedelta(days=1)), evidence("3", NOON + timedelta(days=1))]

    found = make_proof(statements)
    assert found is not None

    assert found.evidence == tuple(e.digest for e in statements)
    assert found.since == NOON - timedelta(days=1)


def test_proof_with_undated_evidence_has_unknown_age():
    """The undated statement may be the oldest."""
    assert present(make_proof([evidence("1", NOON), evidence("2")])).since is None
    assert present(make_proof([evidence("1")])).since is None


def test_no_evidence_is_no_proof():
    """Without evidence nothing is proven."""
    assert make_proof([]) is None
