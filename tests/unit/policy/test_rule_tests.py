"""The tests of rules: what they begin with, and the changes of a rule that they do not notice."""

from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from supply_chain.errors import PolicyInvalid
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import Selector
from supply_chain.policy.expressions import make_language, mutate
from supply_chain.policy.policies import compile_rule, is_selected
from supply_chain.policy.rule_tests import (
    TESTED,
    find_unnoticed,
    make_example_facts,
    make_examples,
    refuses_nothing_tested,
    run_tests,
)
from tests.support.policies import POLICIES, rule


@pytest.mark.parametrize("gate", Gate)
def test_no_change_of_a_shipped_rule_passes_its_tests(gate):
    """A comparison the other way round, another number, a negation less: a test of the rule fails."""
    rules = POLICIES.select_gate(gate).rules

    assert [(each.id, changed) for each in rules for changed in find_unnoticed(each, gate)] == []


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("a == b", ["a != b"]),
        ("a != b", ["a == b"]),
        ("a < b && c", ["a <= b && c", "a < b || c"]),
        ("a <= b || !c", ["a < b || !c", "a <= b && !c", "a <= b || c"]),
        ("a > 1 // > 2", ["a >= 1 // > 2", "a > 2 // > 2"]),
        ("a >= 1.5", ["a > 1.5"]),
        ("a in ['x', \"y\"]", ["a in ['xx', \"y\"]", "a in ['x', \"yx\"]"]),
        ("has(a.b2)", []),
    ],
)
def test_expression_is_changed_in_one_place(text, changed):
    """Each change is another decision, or no expression at all."""
    assert list(mutate(text)) == changed


def test_change_that_no_test_notices_is_named():
    """The author of the rule adds a test for it."""
    tests = [
        {"name": "shop", "passes": True},
        {"name": "store", "facts": {"application": "store"}, "passes": False},
    ]
    loose = rule("a.b", when="has(image.build)", expression="image.application == 'shop' || 1 > 2", tests=tests)
    found = compile_rule(loose, make_language(Gate.DEPLOY))

    assert set(find_unnoticed(found, Gate.DEPLOY)) == {
        "image.application == 'shop' || 2 > 2",
        "image.application == 'shop' || 1 > 3",
        "image.application == 'shop' || 1 >= 2",
    }


def test_test_with_another_result_is_named():
    """It says which one, and what it has to be."""
    never = compile_rule(rule("a.b", expression="image.digest != ''"), make_language(Gate.DEPLOY))

    with pytest.raises(PolicyInvalid, match=r"rule a\.b: its test 'another' passes, and has to be one that fails"):
        run_tests(never, Gate.DEPLOY)


SERVICE = "!has(image.build) || image.build.kind != 'service'"


@pytest.mark.parametrize(
    ("select", "changes", "fails"),
    [
        ({}, {}, True),
        ({"kinds": ["service"]}, {}, True),
        ({"kinds": ["base"]}, {}, False),
        ({"kinds": ["base"]}, {"facts": {"build": {"kind": "service"}}}, False),
        ({"kinds": ["base", "service"]}, {}, True),
        ({"applications": ["pay/*"], "classifications": ["confidential"], "environments": ["production"]}, {}, True),
    ],
)
def test_rule_that_no_selected_image_breaks_fails_its_test(select, changes, fails):
    """It would look as if it protected something."""
    tests = [
        {"name": "no build", "facts": {"build": None}, "passes": True},
        {"name": "a service", **changes, "passes": False},
    ]
    found = compile_rule(rule("a.b", expression=SERVICE, tests=tests), make_language(Gate.DEPLOY))

    with nullcontext() if fails else pytest.raises(PolicyInvalid, match="'a service' passes"):
        run_tests(found, Gate.DEPLOY, Selector.model_validate(select))


def test_example_image_is_one_that_is_selected():
    """The tests of a rule need not repeat what its policy selects."""
    select = Selector(
        applications=("pay/*", "web"), classifications=("confidential",), kinds=("base",), sources=("upstream",),
        environments=("production",),
    )  # fmt: skip
    found = make_example_facts(Gate.DEPLOY, {}, select)

    assert (found["application"], found["environment"]["name"]) == ("pay/shop", "production")
    build = found["build"]
    assert (build["classification"], build["kind"], len(build["uncurated"])) == ("confidential", "base", 1)
    assert is_selected(found, select) and make_example_facts(Gate.DEPLOY, {}) == make_examples(Gate.DEPLOY)
    same = Selector(
        applications=("shop",), classifications=("public", "internal"), kinds=("base", "service"),
        sources=("upstream", "curated"), environments=("production", "staging"),
    )  # fmt: skip
    assert make_example_facts(Gate.DEPLOY, {}, same) == make_examples(Gate.DEPLOY)


def test_rule_that_parameters_switch_off_is_found():
    """Its tests run with other parameters, and pass."""
    tests = [{"name": "one", "passes": True}, {"name": "x", "facts": {"ignored": ["x"]}, "passes": False}]
    loose, strict = (
        compile_rule(rule("a.b", expression=f"size(image.ignored) <= {most}", tests=tests), make_language(Gate.DEPLOY))
        for most in (9, 0)
    )

    assert refuses_nothing_tested(loose, Gate.DEPLOY, Selector())
    assert not refuses_nothing_tested(strict, Gate.DEPLOY, Selector())


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {"name": "staging", "approval": False, "signed_approvals": 0, "test_report": False}),
        (
            {"environment": {"name": "test"}},
            {"name": "test", "approval": False, "signed_approvals": 0, "test_report": False},
        ),
        (
            {"environment": {"approval": True}},
            {"name": "staging", "approval": True, "signed_approvals": 0, "test_report": False},
        ),
    ],
)
def test_changes_of_the_example_are_merged(changes, found):
    """What a test does not name is as in the example, which itself does not change."""
    before = dict(make_examples(Gate.DEPLOY))

    assert make_example_facts(Gate.DEPLOY, changes)["environment"] == found
    assert "build" not in make_example_facts(Gate.DEPLOY, {"build": None, "soak": None})
    assert make_examples(Gate.DEPLOY) == before and make_examples(Gate.DEPLOY) is make_examples(Gate.DEPLOY), (
        "read once"
    )


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("2025-12-31T00:00:00Z", datetime(2025, 12, 31, tzinfo=UTC)),
        ("2025-12-31T01:00:00+01:00", datetime(2025, 12, 31, tzinfo=UTC)),
    ],
)
def test_time_may_be_written_as_text(given, found):
    """A matrix has only texts, and so has a policy in JSON; other facts stay texts."""
    changes = {"scan": {"scanned": given, "version": given}, "bases": [{"image": given, "built": given}]}

    facts = make_example_facts(Gate.DEPLOY, changes)

    assert facts["scan"]["scanned"] == found and facts["scan"]["version"] == given
    assert facts["bases"] == [{"image": given, "built": found}]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"scan": {"scanned": "yesterday"}}, r"image\.scan\.scanned is not of the type datetime"),
        ({"nothing": {"at": "2025-12-31T00:00:00Z"}}, r"there is no fact image\.nothing"),
        ({"digest": ["2025-12-31T00:00:00Z"]}, r"image\.digest is not of the type str"),
        ({"scan": ["2025-12-31T00:00:00Z"]}, r"image\.scan is not a group of facts"),
    ],
)
def test_text_that_is_no_time_is_a_mistake(changes, why):
    """It is named like any other fact of a wrong type."""
    with pytest.raises(PolicyInvalid, match=why):
        make_example_facts(Gate.DEPLOY, changes)


def test_test_may_name_its_time():
    """Otherwise no rule about the time of a decision could be tested."""
    tests = [
        {"name": "before", "now": "2026-06-30T23:59:59Z", "passes": True},
        {"name": "from then on", "now": "2026-07-01T00:00:00Z", "passes": False},
        {"name": "as always", "passes": True},
    ]
    early = rule("a.b", expression="now < timestamp('2026-07-01T00:00:00Z')", tests=tests)

    run_tests(compile_rule(early, make_language(Gate.DEPLOY)), Gate.DEPLOY)


def test_example_is_of_the_day_before_the_tests():
    """Ages in the tests of rules are whole days."""
    assert (TESTED - make_examples(Gate.DEPLOY)["scan"]["scanned"]).total_seconds() == 12 * 3600
    assert (
        make_examples(Gate.INTAKE)["repository"] == "dev/shop"
        and make_examples(Gate.RELEASE)["repository"] == "curated/shop"
    )
    assert (
        "scan" not in make_examples(Gate.INTAKE)
        and make_examples(Gate.RELEASE)["sbom"] != make_examples(Gate.DEPLOY)["sbom"]
    )
