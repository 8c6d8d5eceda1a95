"""Whether values are of the types of facts."""

import pytest

from supply_chain.model.tier import Gate
from supply_chain.policy.fact_schema import find_mistakes, is_optional
from supply_chain.policy.fact_types import FACTS, FindingFacts
from supply_chain.policy.rule_tests import make_examples

FINDING: FindingFacts = {
    "id": "CVE-2026-1", "aliases": [], "severity": "high", "package": "zlib", "version": "1", "type": "deb",
    "fixed_in": ["2"], "exploited": False, "text": "zlib", "fix": "upgrade",
}  # fmt: skip


def test_facts_of_all_gates_fit_their_types():
    """The examples are what the tests of rules begin with."""
    assert {gate: list(find_mistakes(FACTS[gate], make_examples(gate), "image")) for gate in Gate} == {
        g: [] for g in Gate
    }


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"nothing": 1}, "there is no fact image.nothing"),
        ({"build": {}}, "image.build.name is missing"),
        ({"build": 1}, "image.build is not a group of facts"),
        ({"ignored": "all"}, "image.ignored is not a list"),
        ({"ignored": [1]}, "image.ignored[0] is not of the type str"),
        ({"signed": 1}, "image.signed is not of the type bool"),
        ({"soak": {"seconds": True, "text": ""}}, "image.soak.seconds is not of the type int"),
    ],
)
def test_facts_of_another_type_are_found(changes, mistake):
    """A test of a rule with facts that cannot be would prove nothing."""
    first, *_ = find_mistakes(FACTS[Gate.DEPLOY], {**make_examples(Gate.DEPLOY), **changes}, "image")

    assert first == mistake


@pytest.mark.parametrize(("value", "fits"), [(0.5, True), (1, True), ("1", False), (True, False)])
def test_whole_number_is_a_number(value, fits):
    """YAML has no point in a probability of 1."""
    facts = {
        **make_examples(Gate.DEPLOY),
        "scan": {**make_examples(Gate.DEPLOY)["scan"], "findings": [{**FINDING, "epss": value}]},
    }

    assert (list(find_mistakes(FACTS[Gate.DEPLOY], facts, "image")) == []) is fits


def test_optional_facts_are_distinguished_from_required_ones():
    """The page of facts shows which may be absent."""
    facts = FACTS[Gate.DEPLOY]

    assert is_optional(facts, "soak") and not is_optional(facts, "signed")
