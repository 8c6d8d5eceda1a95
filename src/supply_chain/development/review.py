"""review: what a person looked at and declared to be well is told, and does not fail a check."""

from __future__ import annotations

from collections.abc import Iterable

from supply_chain.evidence.checks import CheckResult
from supply_chain.model.manifest import Review


def reviewed(result: CheckResult, reviews: Iterable[Review]) -> CheckResult:
    """The result with the failures at a reviewed place as warnings, each with the reason.

    A review of a place where the check finds nothing is told too: the line has moved, or what was there
    is gone.
    """
    places = {at: review.reason for review in reviews if review.check == result.check.value for at in review.at}
    if not places:
        return result
    failed, warned = [], list(result.warned)
    met: set[str] = set()
    for sentence in result.failed:
        at = sentence.partition(": ")[0]
        if at in places:
            met.add(at)
            warned.append(f"{sentence}, which was reviewed: {places[at]}")
        else:
            failed.append(sentence)
    warned += [f"{at} was reviewed, and there is nothing to be found there" for at in places if at not in met]
    return result.model_copy(update={"failed": tuple(failed), "warned": tuple(warned)})
