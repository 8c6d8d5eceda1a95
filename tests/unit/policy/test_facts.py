"""How facts are made."""

import inspect
from datetime import timedelta

import pytest

from supply_chain.evidence.soak import Soak
from supply_chain.policy import facts
from tests.support.builders import DIGEST


def facts_types():
    """Return every class of facts whose fields have to be named."""
    found = [value for _, value in inspect.getmembers(facts, inspect.isclass) if value.__module__ == facts.__name__]
    return [each for each in found if each is not facts.RequiredSoak]


@pytest.mark.parametrize("made", facts_types())
def test_facts_are_named_when_they_are_made(made):
    """Facts of the same type, such as two reports, could otherwise be given in the wrong order."""
    kinds = {each.kind for each in inspect.signature(made).parameters.values()}

    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("made", facts_types())
def test_facts_have_no_default_values(made):
    """A forgotten fact is never taken for one that passes."""
    assert all(each.default is inspect.Parameter.empty for each in inspect.signature(made).parameters.values())


@pytest.mark.parametrize(("seconds", "met"), [(None, False), (3599, False), (3600, True), (7200, True)])
def test_required_soak_is_met_by_long_enough_soak(make, seconds, met):
    """A promotion asks this before the gate does."""
    longest = None if seconds is None else Soak(
        environment="staging", digest=DIGEST, container="c", since=make.noon,
        until=make.noon + timedelta(seconds=seconds), observations=2, required_seconds=3600,
    )  # fmt: skip

    assert facts.RequiredSoak("staging", 3600).is_met_by(longest) is met
