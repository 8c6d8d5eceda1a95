"""Work queues: how many runs of a kind are under way at a time, as `prefect.yaml` declares it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from supply_chain.adapters.registration.asks import Asks
from supply_chain.errors import SettingInvalid
from supply_chain.image import Frozen


class Queue(Frozen):
    """One work queue. Without a limit the pool's own alone holds."""

    name: str = Field(min_length=1)
    priority: int = Field(ge=1)
    limit: int | None = Field(default=None, ge=1)

    def as_prefect(self) -> dict[str, Any]:
        """The queue's settings as Prefect's API names them."""
        return {"priority": self.priority, "concurrency_limit": self.limit}


class Pool(Frozen):
    """What `prefect.yaml` says of its work pool under `definitions`."""

    name: str
    limit: int = Field(ge=1)
    queues: tuple[Queue, ...]


def declared_pool(project: Path) -> Pool | None:
    """The work pool with its queues that `prefect.yaml` defines; None where it defines none."""
    prefect_yaml = project / "prefect.yaml"
    try:
        content: Any = yaml.safe_load(prefect_yaml.read_text(encoding="utf-8"))
        definitions = content.get("definitions") or {}
        if "queues" not in definitions:
            return None
        return Pool.model_validate(
            {
                "name": definitions["work_pool"]["name"],
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


def ensure_queues(project: Path, ask: Asks) -> tuple[str, ...]:
    """Make the pool's work queues and limits what is declared; the names of what was made or changed.

    Raises `PartFailed` where the server does not take one, also for a pool that it does not have.
    """
    if (pool := declared_pool(project)) is None:
        return ()
    changed = []
    if ask("GET", f"/work_pools/{pool.name}")["concurrency_limit"] != pool.limit:
        ask("PATCH", f"/work_pools/{pool.name}", {"concurrency_limit": pool.limit})
        changed.append(pool.name)
    there = {each["name"]: each for each in ask("POST", f"/work_pools/{pool.name}/queues/filter", {"limit": 200})}
    for queue in pool.queues:
        found, wanted = there.get(queue.name), queue.as_prefect()
        if found is None:
            ask("POST", f"/work_pools/{pool.name}/queues", {"name": queue.name, **wanted})
        elif any(found[key] != value for key, value in wanted.items()):
            ask("PATCH", f"/work_pools/{pool.name}/queues/{queue.name}", wanted)
        else:
            continue
        changed.append(queue.name)
    return tuple(changed)
