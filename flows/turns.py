"""Turns: what two runs must not do at once for the same application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import concurrency

WAIT = 900
"""Seconds to wait for the run whose turn it is."""
LEASE = 60
"""Seconds after which the turn of a run that died is over; one that lives renews it."""


@asynccontextmanager
async def turn(name: str) -> AsyncIterator[None]:
    """Wait for, and hold, the one turn of this name; it is made before it is used.

    Prefect takes no slash in a name.
    """
    async with get_client() as client:
        await client.upsert_global_concurrency_limit_by_name(name=name, limit=1)
    async with concurrency([name], strict=True, timeout_seconds=WAIT, lease_duration=LEASE):
        yield
