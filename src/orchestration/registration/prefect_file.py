"""Reads what `prefect.yaml` declares: deployments, and the work queues of their pools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from supply_chain.errors import SettingInvalid
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


def read_declared_deployments(project: Path) -> frozenset[str]:
    """Return the deployments that `prefect.yaml` declares, as `flow/name`; none without a file."""
    return frozenset(read_declared_entrypoints(project))


def read_declared_entrypoints(project: Path) -> dict[str, str]:
    """Return the entrypoint of each deployment that `prefect.yaml` declares, by `flow/name`; none without a file.

    A flow has the name of its function, which the entrypoint contains, with hyphens in place of underscores. Raises
    `SettingInvalid` if the file cannot be read.
    """
    try:
        return {_name(each): each["entrypoint"] for each in _read(project).get("deployments") or []}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise SettingInvalid(
            f"{project / 'prefect.yaml'} cannot be read: {error!r}\nCorrect it; `make check` lints it."
        ) from error


def read_started_deployments(project: Path) -> dict[str, list[str]]:
    """Return the deployments that each event starts by a trigger in `prefect.yaml`, by the event's name."""
    started: dict[str, list[str]] = {}
    for each in _read(project).get("deployments") or []:
        expected = (event for trigger in each.get("triggers") or () for event in trigger["expect"])
        for event in dict.fromkeys(expected):
            started.setdefault(event, []).append(_name(each))
    return started


def read_declared_pool(project: Path) -> Pool | None:
    """Return the queues that `prefect.yaml` defines, and every work pool that a deployment names; None without queues.

    Raises `SettingInvalid` if they cannot be read.
    """
    try:
        content = _read(project)
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
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValidationError) as error:
        raise SettingInvalid(
            f"The work queues in {project / 'prefect.yaml'} cannot be read: {error}\nCorrect its `definitions`."
        ) from error


def _name(deployment: Mapping[str, Any]) -> str:
    return f"{deployment['entrypoint'].rpartition(':')[2].replace('_', '-')}/{deployment['name']}"


def _read(project: Path) -> Any:
    """Return the content of `prefect.yaml`, or an empty mapping if the project has no such file."""
    try:
        text = (project / "prefect.yaml").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return yaml.load(text, LOADER)  # noqa: S506 # nosec B506 - a safe loader
