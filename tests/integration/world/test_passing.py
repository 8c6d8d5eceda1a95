"""What goes by: a world that fails once is waited for, and the run ends as if nothing had been."""

from __future__ import annotations

import pytest

from .conftest import PASSING, Troubled

pytestmark = pytest.mark.real


def test_what_fails_once_is_asked_again(troubled: Troubled) -> None:
    """Throttled, unavailable, cut off in an upload, with a token whose time is over: the log says why it waited."""
    assert all(len(fault.hits) == 1 for fault in PASSING), [(f.where, len(f.hits)) for f in PASSING]
    assert "the registry answered 429" in troubled.ran.stderr + troubled.ran.stdout
