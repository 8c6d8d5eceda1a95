"""What was reviewed is told, and nothing else is let through with it."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from supply_chain.development.review import reviewed
from supply_chain.evidence.checks import Check, CheckResult, Outcome
from supply_chain.model.image import Interval
from supply_chain.model.manifest import Review

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def result(*failed: str, check: Check = Check.SECRETS) -> CheckResult:
    return CheckResult(
        check=check, passed=("read 2 files",), failed=failed, interval=Interval(started=NOON, finished=NOON)
    )


def review(at: str, check: str = "secrets") -> Review:
    return Review(check=check, at=(at,), reason="known to the test alone")


def test_a_reviewed_finding_warns_with_its_reason():
    """Whoever reads the evidence sees what was let through, and why."""
    seen = reviewed(result("a_test.go:2: Secret Keyword"), [review("a_test.go:2")])

    assert seen.outcome is Outcome.WARNED
    assert seen.warned == ("a_test.go:2: Secret Keyword, which was reviewed: known to the test alone",)


@pytest.mark.parametrize(
    "told",
    ["a_test.go:27: Secret Keyword", "a_test.go:3: Secret Keyword", "b/a_test.go:2: Secret Keyword", "a_test.go:2 odd"],
)
def test_another_place_fails_still(told):
    """A line that begins alike, another line, another file, another kind of sentence."""
    seen = reviewed(result(told), [review("a_test.go:2")])

    assert seen.failed == (told,)
    assert seen.warned == ("a_test.go:2 was reviewed, and there is nothing to be found there",)


def test_places_with_odd_names_are_reviewed_too():
    """A finding's place ends with its first colon and space; a reviewed one has no other colon."""
    seen = reviewed(result("a b,c.go:2: Secret Keyword: x", "a: b.go:2: Secret Keyword"), [review("a b,c.go:2")])

    assert seen.failed == ("a: b.go:2: Secret Keyword",)
    assert seen.warned == ("a b,c.go:2: Secret Keyword: x, which was reviewed: known to the test alone",)


def test_a_review_is_of_one_check():
    """What is no secret may be dangerous all the same."""
    seen = reviewed(result("a.py:2: high: eval (B307)", check=Check.SOURCE), [review("a.py:2")])

    assert seen.outcome is Outcome.FAILED


@pytest.mark.parametrize("at", ["a_test.go", "a_test.go:", "a_test.go:0", ":2", "a:b:2", "*"])
def test_a_review_names_a_place(at):
    """Not a whole file, nor any."""
    with pytest.raises(ValidationError):
        review(at)


def test_a_review_has_a_reason():
    """An empty one is none."""
    with pytest.raises(ValidationError):
        Review(check="secrets", at=("a:2",), reason=" ")
