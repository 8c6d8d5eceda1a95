"""Transient faults: each request that fails once is repeated, and the run succeeds."""

from __future__ import annotations

import pytest

from tests.integration.unreliable_services.sandbox import PASSING, Troubled

pytestmark = pytest.mark.real


def test_requests_that_fail_once_are_repeated(troubled: Troubled) -> None:
    """The faults are throttling, outages, a closed upload and expired tokens; the log has the reason of the wait."""
    assert all(len(fault.hits) == 1 for fault in PASSING), [(f.where, len(f.hits)) for f in PASSING]
    assert "the registry answered 429" in troubled.ran.stderr + troubled.ran.stdout
