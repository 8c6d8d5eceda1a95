"""Frees the slots of concurrency limits that a killed server left."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestration.registration.api import PrefectApi, fetch_all

LIMITS = "v2/concurrency_limits"
SETTLED = 2.0
"""Seconds after which a server has written the lease of a slot that it gave."""


def free_slots(leases: Path, ask: PrefectApi) -> None:
    """Free the slots of concurrency limits that have no lease, because nothing else would ever free them.

    `leases` is the directory of the server's leases. A server leaves such a slot if it is killed after it took the slot
    and before it wrote the lease. Runs may take and free slots meanwhile, so only what is seen twice is freed.
    """
    if left := _find_unleased(leases, ask):
        time.sleep(SETTLED)
        for limit in left & _find_unleased(leases, ask):
            ask("PATCH", f"/{LIMITS}/{limit}", {"active_slots": 0})


def _find_unleased(leases: Path, ask: PrefectApi) -> set[Any]:
    """Return the ids of the limits that have slots taken and no lease; a lease that is half written is none."""
    taken = {limit["id"] for limit in fetch_all(LIMITS, ask) if limit["active_slots"]}
    for lease in leases.glob("*-*.json"):
        with suppress(FileNotFoundError, ValueError):
            taken -= set(json.loads(lease.read_text(encoding="utf-8"))["resource_ids"])
    return taken
