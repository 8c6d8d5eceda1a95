"""Reviewed findings become warnings; every other finding still fails."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from supply_chain.development.review import apply_reviews
from supply_chain.evidence.checks import Check, CheckResult, Outcome
from supply_chain.model.declaration import ReviewedFindings
from supply_chain.model.image import Interval

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def result(*failed: str, check: Check = Check.SECRETS) -> CheckResult:
    return CheckResult(
        check=check, passed=("read 2 files",), failed=failed, interval=Interval(started=NOON, finished=NOON)
    )


def review(at: str, check: str = "secrets") -> ReviewedFindings:
    return ReviewedFindings(check=check, at=(at,), reason="known to the test alone")


def test_reviewed_finding_becomes_warning_with_reason():
    """The evidence shows what was let through and why."""
    reviewed = apply_reviews(result("a_test.go:2: Secret Keyword"), [review("a_test.go:2")])

    assert reviewed.outcome is Outcome.WARNED
    assert reviewed.warned == ("a_test.go:2: Secret Keyword, which was reviewed: known to the test alone",)


@pytest.mark.parametrize(
    "finding",
    ["a_test.go:27: Secret Keyword", "a_test.go:3: Secret Keyword", "b/a_test.go:2: Secret Keyword", "a_test.go:2 odd"],
)
def test_finding_at_other_place_still_fails(finding):
    """This includes a line number with the same first digits, another line, another file and another format."""
    reviewed = apply_reviews(result(finding), [review("a_test.go:2")])

    assert reviewed.failed == (finding,)
    assert reviewed.warned == ("a_test.go:2 was reviewed, and there is nothing to be found there",)


def test_review_matches_path_with_blanks_and_commas():
    """The place of a finding ends at its first colon and space; a reviewed place has no other colon."""
    reviewed = apply_reviews(
        result("a b,c.go:2: Secret Keyword: x", "a: b.go:2: Secret Keyword"), [review("a b,c.go:2")]
    )

    assert reviewed.failed == ("a: b.go:2: Secret Keyword",)
    assert reviewed.warned == ("a b,c.go:2: Secret Keyword: x, which was reviewed: known to the test alone",)


def test_review_applies_to_one_check_only():
    """A finding that is no secret may still be dangerous code."""
    reviewed = apply_reviews(result("a.py:2: high: eval (B307)", check=Check.SOURCE), [review("a.py:2")])

    assert reviewed.outcome is Outcome.FAILED


@pytest.mark.parametrize("at", ["a_test.go", "a_test.go:", "a_test.go:0", ":2", "a:b:2", "*"])
def test_review_refuses_place_without_file_and_line(at):
    """A review cannot cover a whole file."""
    with pytest.raises(ValidationError):
        review(at)


def test_review_requires_reason():
    """A blank reason is refused."""
    with pytest.raises(ValidationError):
        ReviewedFindings(check="secrets", at=("a:2",), reason=" ")
