"""Frees the slots of concurrency limits that a killed server left."""

from __future__ import annotations

import json
from pathlib import Path

from orchestration.registration.api import PrefectApi, fetch_all

LIMITS = "v2/concurrency_limits"


def free_slots(leases: Path, ask: PrefectApi) -> None:
    """Free the slots of concurrency limits that have no lease, because nothing else would ever free them.

    `leases` is the directory of the server's leases. A server leaves such a slot if it is killed after it took the slot
    and before it wrote the lease.
    """
    leased = {
        limit
        for lease in leases.glob("*-*.json")
        for limit in json.loads(lease.read_text(encoding="utf-8"))["resource_ids"]
    }
    for limit in fetch_all(LIMITS, ask):
        if limit["active_slots"] and limit["id"] not in leased:
            ask("PATCH", f"/{LIMITS}/{limit['id']}", {"active_slots": 0})
