"""Reviewed failures of a check, which become warnings."""

from __future__ import annotations

from collections.abc import Iterable

from supply_chain.evidence.checks import CheckResult
from supply_chain.model.declaration import ReviewedFindings


def apply_reviews(result: CheckResult, reviews: Iterable[ReviewedFindings]) -> CheckResult:
    """Return the result with each failure at a reviewed place as a warning that gives the reason.

    A reviewed place where the check finds nothing is a warning too: the line has moved, or the finding is gone.
    """
    places = {at: review.reason for review in reviews if review.check == result.check.value for at in review.at}
    if not places:
        return result
    failed, warned = [], list(result.warned)
    matched: set[str] = set()
    for sentence in result.failed:
        at = sentence.partition(": ")[0]
        if at in places:
            matched.add(at)
            warned.append(f"{sentence}, which was reviewed: {places[at]}")
        else:
            failed.append(sentence)
    warned += [f"{at} was reviewed, and there is nothing to be found there" for at in places if at not in matched]
    return result.model_copy(update={"failed": tuple(failed), "warned": tuple(warned)})
