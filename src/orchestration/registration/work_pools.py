"""Makes the work pool whose worker runs only the project's own command, and asks when a worker was last heard."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from orchestration.registration.api import PrefectApi, fetch_all


def make_job_template(command: str, project: Path) -> dict[str, Any]:
    """Return a work pool's job template with fixed values; it has no variables, so Prefect refuses any job variable."""
    job: dict[str, Any] = {"command": command, "env": {}, "labels": {}, "name": None, "stream_output": True}
    return {
        "job_configuration": {**job, "working_dir": str(project)},
        "variables": {"type": "object", "properties": {}, "additionalProperties": False},
    }


def ensure_process_pool(name: str, command: str, project: Path, ask: PrefectApi) -> None:
    """Create the work pool, or restore its job template: `command` starts the runs, in the directory of the project.

    Whoever can log in can change the template; the worker therefore starts runs this way whatever the template says.
    """
    template = make_job_template(command, project)
    existing = next((pool for pool in fetch_all("work_pools", ask) if pool["name"] == name), None)
    if existing is None:
        about = {"name": name, "type": "process", "description": "Processes on this machine"}
        ask("POST", "/work_pools/", {**about, "base_job_template": template})
    elif existing["base_job_template"] != template:
        ask("PATCH", f"/work_pools/{name}", {"base_job_template": template})


def list_heartbeats(pool: str, worker: str, ask: PrefectApi) -> list[datetime]:
    """Return the times of the last heartbeats of the workers with this name in the pool; raise `ComponentFailed`."""
    workers = ask("POST", f"/work_pools/{pool}/workers/filter", {})
    return [datetime.fromisoformat(each["last_heartbeat_time"]) for each in workers if each["name"] == worker]
