"""Results of checks."""

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
    find_newest_results,
    find_reusable_result,
    list_required_checks,
    list_required_engine_checks,
)
from supply_chain.evidence.reading import SignedValue
from supply_chain.evidence.statement import SUMMARY, TEST_RESULT, VerifiedStatement, make_image_statement
from supply_chain.model.image import ImageRef
from tests.support.builders import NOON, check

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
LATER = NOON + timedelta(microseconds=1)


def evidence(content, kind=TEST_RESULT):
    predicate = content.predicate() if isinstance(content, CheckResult) else content
    statement = make_image_statement(IMAGE, kind, predicate)
    return VerifiedStatement(
        digest="sha256:" + "c" * 64, repository=IMAGE.repository, statement=statement, signer="development"
    )


def test_check_table_lists_required_checks_per_kind():
    """A gate requires exactly the checks that the steps run."""
    static = (Check.DOCKERFILE, Check.SOURCE, Check.SECRETS, Check.DEPENDENCIES)

    assert set(CHECKS) == set(Check)
    assert list_required_checks("service") == (Check.TESTS, *static, Check.PROBE, Check.CONTENT)
    assert list_required_engine_checks("service") == (Check.TESTS, Check.PROBE, Check.CONTENT)
    assert list_required_checks("base") == (*static, Check.CONTENT, Check.COMMAND)
    assert list_required_engine_checks("base") == (Check.CONTENT, Check.COMMAND)


@pytest.mark.parametrize(
    ("results", "outcome"),
    [
        ({"passed": ("a",)}, Outcome.PASSED),
        ({"passed": ("a",), "warned": ("b",)}, Outcome.WARNED),
        ({"passed": ("a",), "failed": ("b",)}, Outcome.FAILED),
        ({"warned": ("a",), "failed": ("b",)}, Outcome.FAILED),
        ({"passed": ()}, Outcome.WARNED),
    ],
)
def test_outcome_is_the_worst_result(make, results, outcome):
    """A check that examined nothing has not passed."""
    assert make.check(Check.TESTS, **results).outcome is outcome


@pytest.mark.parametrize("which", Check)
def test_check_predicate_follows_in_toto_and_restores_result(make, which):
    """in-toto test-result v0.1 defines the names; the gate reads the typed form."""
    result = make.check(which, passed=("a",), failed=("b",), tools={"bandit": "1.8"}, details={"n": [1]})

    predicate = json.loads(json.dumps(result.predicate()))

    assert predicate["result"] == "FAILED"
    assert (predicate["passedTests"], predicate["warnedTests"], predicate["failedTests"]) == (["a"], [], ["b"])
    assert predicate["configuration"] == [{"name": "bandit", "annotations": {"version": "1.8"}}]
    assert CheckResult.model_validate(predicate["cscm"]) == result


def test_newest_result_of_each_check_counts():
    """The signed time decides, and other statement types are ignored."""
    old, new = evidence(check(Check.TESTS)), evidence(check(Check.TESTS, at=LATER))
    probe = evidence(check(Check.PROBE))
    expected = {
        Check.TESTS: SignedValue(check(Check.TESTS, at=LATER), LATER, new),
        Check.PROBE: SignedValue(check(Check.PROBE), NOON, probe),
    }

    assert find_newest_results([old, new, probe, evidence({}, SUMMARY)]) == expected
    assert find_newest_results([probe, new, old]) == expected
    assert find_newest_results([evidence({}, SUMMARY)]) == {}


def test_failed_result_counts_over_passed_at_the_same_time():
    """Everyone with push access can choose the order of referrers."""
    yes, no = evidence(check(Check.TESTS)), evidence(check(Check.TESTS, failed=("a",)))

    assert (
        find_newest_results([yes, no])[Check.TESTS].evidence
        == find_newest_results([no, yes])[Check.TESTS].evidence
        == no
    )


def test_unreadable_check_result_is_invalid_evidence():
    """The unreadable result may be the newest, and a failure."""
    with pytest.raises(EvidenceInvalid, match="test-result"):
        find_newest_results([evidence(check(Check.TESTS)), evidence({"cscm": {}})])


@pytest.mark.parametrize("results", [{"passed": ("a",)}, {"warned": ("a",)}], ids=str)
def test_check_without_failure_counts_as_passed_before(results):
    """A result with warnings need not be repeated."""
    result = check(Check.TESTS, tools={"pytest": "9"}, **results)
    made = evidence(result)

    assert find_reusable_result(Check.TESTS, [made], {"pytest": "9"}) == SignedValue(result, NOON, made)


def test_failed_or_missing_check_does_not_count_as_passed_before():
    """The result of another check does not count, nor one from before a failure."""
    passed, failed = evidence(check(Check.TESTS)), evidence(check(Check.TESTS, at=LATER, failed=("a",)))

    assert find_reusable_result(Check.PROBE, [passed], {}) is None
    assert find_reusable_result(Check.TESTS, [passed, failed], {}) is None
    assert find_reusable_result(Check.TESTS, [], {}) is None


def test_empty_check_result_does_not_count_as_passed_before():
    """The gate refuses an empty result, and the next run may find something to examine."""
    empty = check(Check.TESTS, at=LATER, passed=())

    assert empty.empty
    assert find_reusable_result(Check.TESTS, [evidence(check(Check.TESTS)), evidence(empty)], {}) is None
    assert not any(each.empty for each in (
        check(Check.TESTS, passed=("a",)), check(Check.TESTS, warned=("a",)), check(Check.TESTS, failed=("a",)),
    ))  # fmt: skip


@pytest.mark.parametrize("tools", [{}, {"pytest": "8"}, {"pytest": "9", "python": "3"}], ids=str)
def test_check_with_other_tools_does_not_count_as_passed_before(tools):
    """Other tools may find what the earlier ones did not."""
    made = evidence(check(Check.TESTS, tools={"pytest": "9"}))

    assert find_reusable_result(Check.TESTS, [made], tools) is None


TESTS_RAN = {TESTED: {"proven": True, "by": "pytest", "ran": 3}}


@pytest.mark.parametrize(
    ("check", "changes", "shows"),
    [
        (Check.TESTS, {}, True),
        (Check.TESTS, {"passed": ("a",), "warned": ("b",)}, True),
        (Check.PROBE, {"details": TESTS_RAN}, False),
        (Check.TESTS, {"details": {TESTED: {"proven": False}}}, False),
        (Check.TESTS, {"details": {TESTED: {"proven": "yes"}}}, False),
        (Check.TESTS, {"details": {TESTED: "shown"}}, False),
        (Check.TESTS, {"details": {}}, False),
        (Check.TESTS, {"passed": ("a",), "failed": ("b",)}, False),
        (Check.TESTS, {"passed": ()}, False),
    ],
)
def test_result_shows_tests_only_if_they_ran_and_passed(make, check, changes, shows):
    """Only the tests check, with well-formed details and no failure, proves that tests ran."""
    assert make.check(check, **changes).shows_tests is shows
