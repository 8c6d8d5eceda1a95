"""Makes the work queues that `prefect.yaml` defines; each limits how many of its runs are active at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from orchestration.registration.api import PrefectApi, fetch_all
from supply_chain.errors import ComponentFailed, SettingInvalid
from supply_chain.model.image import Model

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Each run reads the file; the loader in C takes a tenth of the time."""


class Queue(Model):
    """One work queue. Without a limit of its own, only the pool's limit applies."""

    name: str = Field(min_length=1)
    priority: int = Field(ge=1)
    limit: int | None = Field(default=None, ge=1)

    def translate_to_prefect(self) -> dict[str, Any]:
        """Return the queue's settings under the names of Prefect's API."""
        return {"priority": self.priority, "concurrency_limit": self.limit}


class Pool(Model):
    """The settings of the work pool under `definitions` in `prefect.yaml`; of each pool if deployments name several."""

    names: tuple[str, ...] = Field(min_length=1)
    limit: int = Field(ge=1)
    queues: tuple[Queue, ...]


def read_declared_pool(project: Path) -> Pool | None:
    """Return the queues that `prefect.yaml` defines, and every work pool that a deployment names; None without queues.

    Raises `SettingInvalid` if they cannot be read.
    """
    prefect_yaml = project / "prefect.yaml"
    try:
        content: Any = yaml.load(prefect_yaml.read_text(encoding="utf-8"), LOADER)  # noqa: S506 # nosec B506 - a safe loader
        definitions = content.get("definitions") or {}
        if "queues" not in definitions:
            return None
        used = {each["work_pool"]["name"] for each in content.get("deployments") or () if "work_pool" in each}
        return Pool.model_validate(
            {
                "names": sorted(used) or (definitions["work_pool"]["name"],),
                "limit": definitions.get("limit"),
                "queues": tuple(definitions["queues"]),
            }
        )
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValidationError) as error:
        raise SettingInvalid(
            f"The work queues in {prefect_yaml} cannot be read: {error}\nCorrect its `definitions`."
        ) from error


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
