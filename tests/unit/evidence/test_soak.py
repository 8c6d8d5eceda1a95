"""Soak statements: signing and reading them."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from supply_chain.evidence.soak import Soak, find_last_soak, find_longest_soak
from supply_chain.evidence.statement import SOAK, VerifiedStatement, make_image_statement
from supply_chain.model.image import ImageRef
from tests.support.builders import DIGEST, NOON, OTHER
from tests.support.present import present

WHERE = ImageRef(repository="evidence/execution/hello", digest=DIGEST)


def soak(**changes):
    values = {
        "environment": "staging",
        "digest": DIGEST,
        "container": "c",
        "since": NOON,
        "until": NOON + timedelta(hours=1),
        "observations": 13,
        "required_seconds": 3600,
    }
    return Soak(**{**values, **changes})


def evidence(signed):
    statement = make_image_statement(WHERE, SOAK, signed.predicate())
    return VerifiedStatement(digest=DIGEST, repository=WHERE.repository, statement=statement, signer="execution")


def test_last_soak_is_read_back():
    """The number of health checks remains."""
    later = soak(until=NOON + timedelta(hours=2), observations=25)

    found = find_last_soak([evidence(later), evidence(soak())], "staging", DIGEST, "c")

    assert found is not None and found.value == later


@pytest.mark.parametrize("other", [{"environment": "acceptance"}, {"digest": OTHER}, {"container": "c2"}])
def test_soak_of_other_environment_image_or_container_does_not_count(other):
    """Each environment requires a soak of its own for each digest and container."""
    assert find_last_soak([evidence(soak(**other))], "staging", DIGEST, "c") is None


def test_soak_lasts_from_first_to_last_observation():
    """The duration is in seconds."""
    assert soak().seconds == 3600


def test_soak_text_shows_environment_and_duration():
    """The duration is rounded down to seconds."""
    assert str(soak(until=NOON + timedelta(days=1, hours=1, seconds=0.9))) == "healthy in staging for 1 day, 1:00:00"


def test_soak_requires_at_least_one_observation():
    """Without an observation nothing is known."""
    assert soak(observations=1).observations == 1
    with pytest.raises(ValidationError):
        soak(observations=0)


def test_last_soak_is_the_newest_in_any_order():
    """The time decides, not the order of reading."""
    many = [soak(until=NOON + timedelta(hours=hours)) for hours in (2, 4, 1, 3)]

    assert present(find_last_soak(map(evidence, many), "staging", DIGEST, "c")).value == many[1]


def test_longest_soak_counts_for_any_container():
    """A later, shorter soak does not replace it."""
    long = soak(until=NOON + timedelta(hours=3), container="c2")
    later = soak(since=NOON + timedelta(hours=4), until=NOON + timedelta(hours=5))

    assert present(find_longest_soak(map(evidence, (later, long, soak())), "staging", DIGEST)).value == long


@pytest.mark.parametrize("other", [{"environment": "acceptance"}, {"digest": OTHER}])
def test_longest_soak_ignores_other_environment_and_image(other):
    """Without a matching soak the result is None."""
    assert find_longest_soak([evidence(soak(**other))], "staging", DIGEST) is None
