"""Rules with `effective_on`: which refuse soon, and what the policies are then."""

import json
from datetime import timedelta

import pytest

from supply_chain.model.tier import Gate
from supply_chain.policy.loading import replace_policies
from supply_chain.policy.upcoming import UpcomingRule, enforce_upcoming, find_upcoming
from tests.support.builders import NOON
from tests.support.policies import ENVIRONMENTS, POLICIES

DAY = timedelta(days=1)
TESTS = [{"name": "x", "facts": {"application": "x"}, "passes": True}, {"name": "y", "passes": False}]


def rule(name, days, **changes):
    given = {
        "id": name, "title": "t", "expression": f"image.application == 'x' || image.application == '{name}'",
        "message": "ä \U0001f600", "remedy": "r", "tests": TESTS,
        "effective_on": None if days is None else (NOON + days * DAY).isoformat(),
    }  # fmt: skip
    return {**given, **changes}


def with_rules(*rules, **changes):
    """Return the policies that ship with another one of these rules."""
    policy = {"name": "ours", "version": 1, "description": "d", "gates": ["release", "deploy"], "rules": rules}
    return replace_policies(
        POLICIES, {"ours.yaml": json.dumps({**policy, **changes}, ensure_ascii=False)}, ENVIRONMENTS
    )


@pytest.mark.parametrize(
    ("days", "upcoming"), [(None, False), (-1, False), (0, False), (1, True), (7, True), (8, False)]
)
def test_rule_is_upcoming_from_now_to_the_end_of_the_period(days, upcoming):
    """At its time, it refuses already."""
    found = find_upcoming(with_rules(rule("a.b", days)), NOON, NOON + 7 * DAY)

    assert [each.rule for each in found] == (["a.b"] if upcoming else [])


def test_upcoming_rules_are_sorted_by_effective_date():
    """Each is named once for all its gates; a rule that only warns never refuses."""
    warning = rule("w.w", 1, severity="warn")
    matrix = rule(
        "m.${n}", 2, matrix=[{"n": "one"}, {"n": "two"}], expression="image.application == 'x' || '${n}' == 'x'"
    )
    found = find_upcoming(with_rules(rule("a.b", 3), warning, matrix), NOON, NOON + 7 * DAY)

    assert found[0] == UpcomingRule(
        rule="m.one", policy="ours", gates=(Gate.RELEASE, Gate.DEPLOY), effective_on=NOON + 2 * DAY
    )
    assert [each.rule for each in found] == ["m.one", "m.two", "a.b"]
    assert find_upcoming(POLICIES, NOON, NOON + 366 * DAY) == ()


def test_proposal_differs_only_in_the_rules_that_refuse_soon():
    """It can be read as any policy; others keep their time."""
    current = with_rules(rule("a.b", 3), rule("c.d", 30))
    texts = enforce_upcoming(current, NOON, NOON + 7 * DAY)
    proposed = replace_policies(current, texts, ENVIRONMENTS)

    assert texts.keys() == {"ours.yaml"}
    (before,), (after,) = (
        [each for each in of.deploy.policies if each.document.name == "ours"] for of in (current, proposed)
    )
    assert [each.document.effective_on for each in after.rules] == [None, NOON + 30 * DAY]
    same = before.document.rules[0].model_copy(update={"effective_on": None})
    assert after.document == before.document.model_copy(update={"rules": (same, before.document.rules[1])})
    assert enforce_upcoming(current, NOON + 3 * DAY, NOON + 4 * DAY) == {}
