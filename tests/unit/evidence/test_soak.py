"""Soaks as they are signed and read back."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from supply_chain.evidence.soak import Soak, last_soak
from supply_chain.evidence.statement import SOAK, Evidence, about
from supply_chain.image import ImageRef
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
    return Evidence(digest=DIGEST, repository=WHERE.repository, statement=statement, signer="execution")


def test_the_last_one_is_read_back():
    """With how often it was looked at."""
    later = soak(until=NOON + timedelta(hours=2), looks=25)

    found = last_soak([evidence(later), evidence(soak())], "staging", DIGEST)

    assert found is not None and found.value == later


@pytest.mark.parametrize("other", [{"environment": "acceptance"}, {"digest": OTHER}])
def test_a_soak_elsewhere_or_of_another_image_is_none_here(other):
    """Each environment asks anew, of each digest."""
    assert last_soak([evidence(soak(**other))], "staging", DIGEST) is None


def test_it_lasted_from_the_first_look_to_the_last():
    """In seconds."""
    assert soak().seconds == 3600


def test_who_never_looked_saw_no_soak():
    """One look is the least."""
    assert soak(looks=1).looks == 1
    with pytest.raises(ValidationError):
        soak(looks=0)


def test_the_last_of_many_counts():
    """In whatever order they are read."""
    many = [soak(until=NOON + timedelta(hours=hours)) for hours in (2, 4, 1, 3)]

    assert last_soak(map(evidence, many), "staging", DIGEST).value == many[1]
