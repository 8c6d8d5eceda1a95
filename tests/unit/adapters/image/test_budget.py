"""Tests of the budget for reading an image."""

import pytest

from supply_chain.adapters.image.budget import MAX_SECONDS, Budget, TooLong
from supply_chain.adapters.process.cancellation import Cancellation
from supply_chain.errors import Cancelled


def test_checkpoint_raises_after_processor_time_is_used_up():
    """Every later checkpoint raises as well."""
    seconds = [5.0]
    budget = Budget(clock=lambda: seconds[-1])
    seconds.append(5.0 + MAX_SECONDS)
    budget.checkpoint()
    seconds.append(5.1 + MAX_SECONDS)

    for _ in range(2):
        with pytest.raises(TooLong, match="15 minutes of processor time"):
            budget.checkpoint()


def test_checkpoint_raises_if_run_is_cancelled():
    """The remaining time does not matter."""
    scope = Cancellation()
    budget = Budget(scope=scope)
    budget.checkpoint()
    scope.cancel()

    with pytest.raises(Cancelled):
        budget.checkpoint()
