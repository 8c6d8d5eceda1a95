"""Statements as the model's own values: what cannot be read is an error, and what a step rests on is told."""

from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.reading import parsed, proof
from supply_chain.evidence.statement import TEST_RESULT, Evidence, about
from supply_chain.image import ImageRef, Source
from tests.unit.conftest import NOON

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)


def evidence(digit, attached=None):
    return Evidence(
        digest="sha256:" + digit * 64,
        repository=IMAGE.repository,
        statement=about(IMAGE, TEST_RESULT, {}),
        signer="development",
        attached=attached,
    )


def test_gives_what_was_read():
    """Whatever it is, also nothing."""
    assert parsed(lambda: 7, "number") == 7
    assert parsed(lambda: None, "nothing") is None


@pytest.mark.parametrize(
    "read",
    [
        lambda: {}["declaration"],
        lambda: int(None),
        lambda: [].get("declaration"),
        lambda: Source.model_validate({}),
    ],
    ids=["missing", "nothing", "list", "other fields"],
)
def test_what_has_another_form_is_invalid_evidence(read):
    """Whoever signed it used another version; the message says what it was to be."""
    with pytest.raises(EvidenceInvalid, match="signed source cannot be read"):
        parsed(read, "source")


def test_a_mistake_of_ours_is_no_invalid_evidence():
    """It has to be seen as what it is."""
    with pytest.raises(ZeroDivisionError):
        parsed(lambda: 1 // 0, "source")


def test_an_error_tells_the_first_of_a_long_story():
    """A statement can be of any size; a message is not."""

    def read():
        raise TypeError("x" * 10_000)

    with pytest.raises(EvidenceInvalid) as caught:
        parsed(read, "source")

    assert str(caught.value).count("x") == 500


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
