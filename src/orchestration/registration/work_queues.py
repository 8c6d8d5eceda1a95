"""Makes the work queues that `prefect.yaml` defines; each limits how many of its runs are active at a time."""

from __future__ import annotations

from pathlib import Path

from orchestration.registration.api import PrefectApi, fetch_all
from orchestration.registration.prefect_file import Pool, read_declared_pool
from supply_chain.errors import ComponentFailed


def ensure_queues(project: Path, ask: PrefectApi) -> tuple[str, ...]:
    """Create or correct the work queues and limits of each pool; return the names of what was created or changed.

    Raises `ComponentFailed` if the server does not have a pool or does not accept a change.
    """
    if (pool := read_declared_pool(project)) is None:
        return ()
    limits = {each["name"]: each["concurrency_limit"] for each in fetch_all("work_pools", ask)}
    if missing := [name for name in pool.names if name not in limits]:
        raise ComponentFailed(
            f"prefect.yaml names the work pool {missing[0]!r}, which the server does not have.\n"
            f"Make it with `prefect work-pool create {missing[0]} --type process`, then run the same command again."
        )
    return tuple(each for name in pool.names for each in _ensure(name, limits[name], pool, ask))


def _ensure(name: str, limit: int | None, pool: Pool, ask: PrefectApi) -> tuple[str, ...]:
    path, changed = f"/work_pools/{name}", []
    if limit != pool.limit:
        ask("PATCH", path, {"concurrency_limit": pool.limit})
        changed.append(name)
    existing = {each["name"]: each for each in ask("POST", f"{path}/queues/filter", {"limit": 200})}
    for queue in pool.queues:
        current, body = existing.get(queue.name), queue.translate_to_prefect()
        if current is None:
            ask("POST", f"{path}/queues", {"name": queue.name, **body})
        elif any(current[key] != value for key, value in body.items()):
            ask("PATCH", f"{path}/queues/{queue.name}", body)
        else:
            continue
        changed.append(queue.name)
    return tuple(changed)
