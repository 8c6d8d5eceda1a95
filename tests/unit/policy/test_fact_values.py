"""What rules read about an image: absent facts are absent, and values are those of the evidence."""

from dataclasses import fields
from datetime import datetime
from typing import Any

import pytest

from supply_chain.evidence.summary import summary
from supply_chain.model.tier import Gate
from supply_chain.policy.expressions import find_mistakes
from supply_chain.policy.fact_types import FACTS
from supply_chain.policy.fact_values import values_of
from supply_chain.policy.facts import ImageFacts
from tests.support.builders import NOON, finding, report
from tests.support.facts import CURATED, deploy_facts
from tests.support.facts import FACTS as MAKERS


@pytest.mark.parametrize(("epss", "read"), [(0.9, 0.9), (0.0, 0.0), (None, None)])
def test_probability_of_an_exploit_is_there_only_if_it_is_published(epss: float | None, read: float | None) -> None:
    """A finding without one is not one of probability 0."""
    values: Any = values_of(deploy_facts(report=report(finding(epss=epss))))

    (found,) = values["scan"]["findings"]
    assert ("epss" in found, found.get("epss")) == (read is not None, read)


@pytest.mark.parametrize("gate", MAKERS)
def test_values_fit_their_types(gate: Any) -> None:
    """An expression is checked against these types and evaluated on these values."""
    for changes in ({}, {"provenance": None}):
        values = values_of(MAKERS[gate](**changes))

        assert list(find_mistakes(FACTS[gate], values, "image")) == []
        assert ("build" in values) is (not changes)


@pytest.mark.parametrize("expires", [None, NOON])
def test_end_of_a_verdict_is_there_only_if_it_rests_on_a_waiver(expires: datetime | None) -> None:
    """A rule asks `has(…)`."""
    last = summary(
        CURATED, Gate.RELEASE, "sha256:" + "9" * 64, reasons=(), notes=(), inputs=(), now=NOON, expires=expires
    )
    values: Any = values_of(deploy_facts(verdicts={Gate.RELEASE: last}))

    wanted = {"passed": True, "at": NOON} | ({"expires": expires} if expires else {})
    assert values["verdicts"] == {"release": wanted}


def test_facts_of_no_gate_have_no_values() -> None:
    """Every rule would be evaluated on nothing."""
    facts = deploy_facts()
    of_every_gate = ImageFacts(**{each.name: getattr(facts, each.name) for each in fields(ImageFacts)})

    with pytest.raises(TypeError, match="ImageFacts"):
        values_of(of_every_gate)
