"""What reading an image may cost."""

import pytest

from supply_chain.adapters.image.budget import MAX_SECONDS, Budget, TooLong
from supply_chain.adapters.process.command import Cancellation
from supply_chain.errors import Cancelled


def test_reading_that_takes_too_much_is_ended():
    """At its next checkpoint, and at every one after it."""
    seconds = [5.0]
    budget = Budget(clock=lambda: seconds[-1])
    seconds.append(5.0 + MAX_SECONDS)
    budget.checkpoint()
    seconds.append(5.1 + MAX_SECONDS)

    for _ in range(2):
        with pytest.raises(TooLong, match="15 minutes of processor time"):
            budget.checkpoint()


def test_reading_ends_with_its_run():
    """Whatever time is left."""
    scope = Cancellation()
    budget = Budget(scope=scope)
    budget.checkpoint()
    scope.cancel()

    with pytest.raises(Cancelled):
        budget.checkpoint()
