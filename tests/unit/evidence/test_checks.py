"""What the result of a check says."""

import json

import pytest

from supply_chain.evidence.checks import Check, CheckResult, Outcome


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"passed": ("a",)}, Outcome.PASSED),
        ({"passed": ("a",), "warned": ("b",)}, Outcome.WARNED),
        ({"passed": ("a",), "failed": ("b",)}, Outcome.FAILED),
        ({"warned": ("a",), "failed": ("b",)}, Outcome.FAILED),
        ({"passed": ()}, Outcome.WARNED),
    ],
)
def test_the_worst_that_was_said_is_the_outcome(make, said, outcome):
    """And a check that looked at nothing has not passed."""
    assert make.check(Check.TESTS, **said).outcome is outcome


@pytest.mark.parametrize("which", Check)
def test_the_predicate_is_in_totos_and_carries_the_typed_form(make, which):
    """test-result v0.1: the names are in-toto's; what the gate reads comes back whole."""
    result = make.check(which, passed=("a",), failed=("b",), tools={"bandit": "1.8"}, details={"n": [1]})

    predicate = json.loads(json.dumps(result.predicate()))

    assert predicate["result"] == "FAILED"
    assert (predicate["passedTests"], predicate["warnedTests"], predicate["failedTests"]) == (["a"], [], ["b"])
    assert predicate["configuration"] == [{"name": "bandit", "annotations": {"version": "1.8"}}]
    assert CheckResult.model_validate(predicate["cscm"]) == result
