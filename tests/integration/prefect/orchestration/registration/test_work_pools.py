"""The work pool, its workers' heartbeats, and slots of concurrency limits, on Prefect's server."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestration.registration import ensure_process_pool, free_slots
from orchestration.registration.work_pools import list_heartbeats, make_job_template


@pytest.fixture
def name(ask, tmp_path):
    """Return the name of a work pool that is removed afterwards."""
    yield f"pool-{tmp_path.name}"
    ask("DELETE", f"/work_pools/pool-{tmp_path.name}")


def test_job_template_has_no_variables():
    """Prefect then refuses job variables, and the fixed values refer to none."""
    template = make_job_template("python own.py", Path("/project"))

    assert template["variables"] == {"type": "object", "properties": {}, "additionalProperties": False}
    assert template["job_configuration"]["command"] == "python own.py"
    assert template["job_configuration"]["working_dir"] == "/project"
    assert "{{" not in str(template["job_configuration"])


def test_work_pool_is_created_and_its_template_restored(ask, name, tmp_path):
    """Whoever can log in can change the template."""
    ensure_process_pool(name, "python own.py", tmp_path, ask)
    ask(
        "PATCH",
        f"/work_pools/{name}",
        {"base_job_template": {"job_configuration": {"command": "sh"}, "variables": {"properties": {}}}},
    )

    ensure_process_pool(name, "python own.py", tmp_path, ask)

    pool = ask("GET", f"/work_pools/{name}")
    assert (pool["type"], pool["base_job_template"]) == ("process", make_job_template("python own.py", tmp_path))


def test_heartbeats_returns_only_those_of_named_worker(ask, name, tmp_path):
    """Another worker of the pool may be alive while this one is not."""
    ensure_process_pool(name, "python own.py", tmp_path, ask)
    for worker in ("ours", "other"):
        ask("POST", f"/work_pools/{name}/workers/heartbeat", {"name": worker})

    (heard,) = list_heartbeats(name, "ours", ask)

    assert abs(datetime.now(UTC) - heard) < timedelta(minutes=1)
    assert list_heartbeats(name, "stranger", ask) == []


def test_slot_without_lease_is_freed_and_slot_with_lease_stays(ask, tmp_path, monkeypatch):
    """A server that was killed between slot and lease leaves such a slot; limits are read page by page.

    The lease of a run that just takes a slot comes between the two looks.
    """
    limits = {each: ask("POST", "/v2/concurrency_limits/", {"name": f"{tmp_path.name} {each}", "limit": 1})["id"]
              for each in ("left", "held", "late", "free")}  # fmt: skip
    for each in ("left", "held", "late"):
        ask("POST", "/v2/concurrency_limits/increment", {"names": [f"{tmp_path.name} {each}"], "slots": 1})

    def lease(each):
        (tmp_path / f"{limits[each]}.json").write_text(json.dumps({"resource_ids": [limits[each]]}))

    def ask_except_of_others(method, path, *body):
        """Change no limits of other tests on the same server: this directory has no leases of theirs."""
        is_own = any(path.endswith(limit) for limit in limits.values())
        return ask(method, path, *body) if is_own or method != "PATCH" else None

    lease("held")
    (tmp_path / "half-written.json").write_text('{"resource_ids"')
    monkeypatch.setattr("orchestration.registration.concurrency_limits.time.sleep", lambda _: lease("late"))

    free_slots(tmp_path, ask_except_of_others)

    found = {each: ask("GET", f"/v2/concurrency_limits/{limit}")["active_slots"] for each, limit in limits.items()}
    for limit in limits.values():
        ask("DELETE", f"/v2/concurrency_limits/{limit}")
    assert found == {"left": 0, "held": 1, "late": 1, "free": 0}
