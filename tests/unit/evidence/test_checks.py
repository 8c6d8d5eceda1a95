"""What the result of a check says."""

import json
from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.checks import (
    CHECKS,
    TESTED,
    Check,
    CheckResult,
    Outcome,
    newest_results,
    passed_before,
    required,
    required_in_engine,
)
from supply_chain.evidence.reading import SignedValue
from supply_chain.evidence.statement import SUMMARY, TEST_RESULT, VerifiedStatement, about
from supply_chain.model.image import ImageRef
from tests.unit.conftest import NOON, check

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
LATER = NOON + timedelta(microseconds=1)


def evidence(said, kind=TEST_RESULT):
    predicate = said.predicate() if isinstance(said, CheckResult) else said
    statement = about(IMAGE, kind, predicate)
    return VerifiedStatement(
        digest="sha256:" + "c" * 64, repository=IMAGE.repository, statement=statement, signer="development"
    )


def test_the_table_says_of_which_kinds_a_check_is_made_and_where():
    """Every check once; what a gate requires, the steps make."""
    static = (Check.DOCKERFILE, Check.SOURCE, Check.SECRETS, Check.DEPENDENCIES)

    assert set(CHECKS) == set(Check)
    assert required("service") == (Check.TESTS, *static, Check.PROBE, Check.CONTENT)
    assert required_in_engine("service") == (Check.TESTS, Check.PROBE, Check.CONTENT)
    assert required("base") == (*static, Check.CONTENT, Check.COMMAND)
    assert required_in_engine("base") == (Check.CONTENT, Check.COMMAND)


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


def test_the_newest_result_of_each_check_counts():
    """By the time in the statement, wherever it lies; other statements are not asked."""
    old, new = evidence(check(Check.TESTS)), evidence(check(Check.TESTS, at=LATER))
    probe = evidence(check(Check.PROBE))
    expected = {
        Check.TESTS: SignedValue(check(Check.TESTS, at=LATER), LATER, new),
        Check.PROBE: SignedValue(check(Check.PROBE), NOON, probe),
    }

    assert newest_results([old, new, probe, evidence({}, SUMMARY)]) == expected
    assert newest_results([probe, new, old]) == expected
    assert newest_results([evidence({}, SUMMARY)]) == {}


def test_of_two_results_of_one_instant_the_failed_one_counts():
    """Whoever may push can choose in which order they lie."""
    yes, no = evidence(check(Check.TESTS)), evidence(check(Check.TESTS, failed=("a",)))

    assert newest_results([yes, no])[Check.TESTS].evidence == newest_results([no, yes])[Check.TESTS].evidence == no


def test_a_signed_result_that_cannot_be_read_is_an_error():
    """It may be the newest, and a failure."""
    with pytest.raises(EvidenceInvalid, match="test-result"):
        newest_results([evidence(check(Check.TESTS)), evidence({"cscm": {}})])


@pytest.mark.parametrize("said", [{"passed": ("a",)}, {"warned": ("a",)}], ids=str)
def test_a_check_that_did_not_fail_need_not_be_made_again(said):
    """A warning stays one."""
    result = check(Check.TESTS, tools={"pytest": "9"}, **said)
    made = evidence(result)

    assert passed_before(Check.TESTS, [made], {"pytest": "9"}) == SignedValue(result, NOON, made)


def test_what_failed_or_was_not_made_has_not_passed_before():
    """Another check's result does not serve, nor one from before the failure."""
    passed, failed = evidence(check(Check.TESTS)), evidence(check(Check.TESTS, at=LATER, failed=("a",)))

    assert passed_before(Check.PROBE, [passed], {}) is None
    assert passed_before(Check.TESTS, [passed, failed], {}) is None
    assert passed_before(Check.TESTS, [], {}) is None


def test_what_looked_at_nothing_is_made_again():
    """It would be refused for as long as it is kept, although the next time may find something to look at."""
    empty = check(Check.TESTS, at=LATER, passed=())

    assert empty.empty
    assert passed_before(Check.TESTS, [evidence(check(Check.TESTS)), evidence(empty)], {}) is None
    assert not any(check(Check.TESTS, **{kind: ("a",)}).empty for kind in ("passed", "warned", "failed"))


@pytest.mark.parametrize("tools", [{}, {"pytest": "8"}, {"pytest": "9", "python": "3"}], ids=str)
def test_a_check_is_made_again_with_other_tools(tools):
    """They might find what those before did not."""
    made = evidence(check(Check.TESTS, tools={"pytest": "9"}))

    assert passed_before(Check.TESTS, [made], tools) is None


SHOWN = {TESTED: {"shown": True, "by": "pytest", "ran": 3}}


@pytest.mark.parametrize(
    ("check", "changes", "shows"),
    [
        (Check.TESTS, {}, True),
        (Check.TESTS, {"passed": ("a",), "warned": ("b",)}, True),
        (Check.PROBE, {"details": SHOWN}, False),
        (Check.TESTS, {"details": {TESTED: {"shown": False}}}, False),
        (Check.TESTS, {"details": {TESTED: {"shown": "yes"}}}, False),
        (Check.TESTS, {"details": {TESTED: "shown"}}, False),
        (Check.TESTS, {"details": {}}, False),
        (Check.TESTS, {"passed": ("a",), "failed": ("b",)}, False),
        (Check.TESTS, {"passed": ()}, False),
    ],
)
def test_a_report_shows_tests_that_ran_and_did_not_fail(make, check, changes, shows):
    """Of the check of tests, in its details, and nothing that only looks so."""
    assert make.check(check, **changes).shows_tests is shows
