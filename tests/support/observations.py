"""Observations of a deployment, healthy and not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from supply_chain.execution.observation import Deviation, Observation
from tests.support.builders import DIGEST, NOON

FIVE = timedelta(minutes=5)
DRIFT = Deviation(code="drift.files", fact="f", remedy="r")


def look(minutes: float, **changes: Any) -> Observation:
    """Return a healthy observation a number of minutes after noon."""
    values: dict[str, Any] = {
        "at": NOON + timedelta(minutes=minutes),
        "environment": "staging",
        "application": "hello",
        "name": "staging-hello-1",
        "container": "c1",
        "expected_digest": DIGEST,
        "running": DIGEST,
        "healthy": True,
        "started_at": NOON - FIVE,
    }
    return Observation(**{**values, **changes})
