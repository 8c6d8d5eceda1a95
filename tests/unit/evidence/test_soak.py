"""Soaks as they are signed and read back."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from supply_chain.evidence.soak import Soak, last_soak, longest_soak
from supply_chain.evidence.statement import SOAK, VerifiedStatement, about
from supply_chain.model.image import ImageRef
from tests.unit.conftest import DIGEST, NOON, OTHER

WHERE = ImageRef(repository="evidence/execution/hello", digest=DIGEST)


def soak(**changes):
    values = {
        "environment": "staging",
        "digest": DIGEST,
        "container": "c",
        "since": NOON,
        "until": NOON + timedelta(hours=1),
        "looks": 13,
        "asked": 3600,
    }
    return Soak(**{**values, **changes})


def evidence(said):
    statement = about(WHERE, SOAK, said.predicate())
    return VerifiedStatement(digest=DIGEST, repository=WHERE.repository, statement=statement, signer="execution")


def test_the_last_one_is_read_back():
    """With how often it was looked at."""
    later = soak(until=NOON + timedelta(hours=2), looks=25)

    found = last_soak([evidence(later), evidence(soak())], "staging", DIGEST, "c")

    assert found is not None and found.value == later


@pytest.mark.parametrize("other", [{"environment": "acceptance"}, {"digest": OTHER}, {"container": "c2"}])
def test_a_soak_elsewhere_or_of_another_image_or_container_is_none_here(other):
    """Each environment asks anew, of each digest, and of what it is deployed as."""
    assert last_soak([evidence(soak(**other))], "staging", DIGEST, "c") is None


def test_it_lasted_from_the_first_look_to_the_last():
    """In seconds."""
    assert soak().seconds == 3600


def test_it_is_told_with_where_and_how_long():
    """To the second."""
    assert str(soak(until=NOON + timedelta(days=1, hours=1, seconds=0.9))) == "well in staging for 1 day, 1:00:00"


def test_who_never_looked_saw_no_soak():
    """One look is the least."""
    assert soak(looks=1).looks == 1
    with pytest.raises(ValidationError):
        soak(looks=0)


def test_the_last_of_many_counts():
    """In whatever order they are read."""
    many = [soak(until=NOON + timedelta(hours=hours)) for hours in (2, 4, 1, 3)]

    assert last_soak(map(evidence, many), "staging", DIGEST, "c").value == many[1]


def test_the_longest_counts_where_the_container_does_not():
    """A later and shorter one takes nothing from it."""
    long = soak(until=NOON + timedelta(hours=3), container="c2")
    later = soak(since=NOON + timedelta(hours=4), until=NOON + timedelta(hours=5))

    assert longest_soak(map(evidence, (later, long, soak())), "staging", DIGEST).value == long


@pytest.mark.parametrize("other", [{"environment": "acceptance"}, {"digest": OTHER}])
def test_no_soak_elsewhere_or_of_another_image_is_the_longest(other):
    """Nor is one of none."""
    assert longest_soak([evidence(soak(**other))], "staging", DIGEST) is None
