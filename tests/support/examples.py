"""The number of random examples of a test."""

from __future__ import annotations

import os

from hypothesis import settings

SEARCH = int(os.environ.get("CSCM_FUZZ_FACTOR", "0"))
"""Factor for the number of random examples; 0 means the written number with the same examples in each run."""


def tries(examples: int) -> settings:
    """Return settings with a number of examples that found all known faults; `make test-fuzz` tries more."""
    # no deadline, because the duration depends on other work of the machine
    return settings(max_examples=examples * max(SEARCH, 1), derandomize=not SEARCH, deadline=None)
