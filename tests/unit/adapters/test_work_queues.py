"""Work queues and abandoned runs: what is declared is what Prefect's server has."""

from pathlib import Path

import httpx
import pytest
from prefect.settings import get_current_settings

from supply_chain.adapters.registration import ensure_abandoned, ensure_queues
from supply_chain.adapters.registration.abandoned import abandoned
from supply_chain.errors import SettingInvalid

DECLARED = """
definitions:
  limit: 9
  queues:
    - {name: watch, priority: 1}
    - {name: default, priority: 2}
    - {name: pushes, priority: 3, limit: 2}
  work_pool: {name: POOL}
deployments: []
"""


@pytest.fixture
def ask(machine):
    """A real server."""

    def asked(method, path, body=None):
        answer = httpx.request(method, f"{get_current_settings().api.url}{path}", json=body, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    return asked


@pytest.fixture
def pool(ask, tmp_path: Path):
    """A work pool on it, and a project that declares its queues."""
    name = f"pool-{tmp_path.name}"
    ask("POST", "/work_pools/", {"name": name, "type": "process"})
    (tmp_path / "prefect.yaml").write_text(DECLARED.replace("POOL", name))
    yield name
    ask("DELETE", f"/work_pools/{name}")


def queues(ask, pool):
    found = ask("POST", f"/work_pools/{pool}/queues/filter", {})
    return {each["name"]: (each["priority"], each["concurrency_limit"]) for each in found}


def test_the_queues_and_limits_of_a_pool_are_those_declared(ask, pool, tmp_path):
    """Made once; what somebody changed is corrected, and an operator's own queue stays."""
    assert ensure_queues(tmp_path, ask)
    assert ask("GET", f"/work_pools/{pool}")["concurrency_limit"] == 9
    assert queues(ask, pool) == {"watch": (1, None), "default": (2, None), "pushes": (3, 2)}
    assert ensure_queues(tmp_path, ask) == ()

    ask("POST", f"/work_pools/{pool}/queues", {"name": "ours"})
    ask("PATCH", f"/work_pools/{pool}/queues/pushes", {"concurrency_limit": 100})
    assert ensure_queues(tmp_path, ask) == ("pushes",)
    assert queues(ask, pool)["pushes"] == (3, 2) and "ours" in queues(ask, pool)


def test_a_project_without_queues_has_none(ask, tmp_path):
    """And one that declares them wrongly is told."""
    assert ensure_queues(tmp_path, ask) == ()
    (tmp_path / "prefect.yaml").write_text("deployments: []")
    assert ensure_queues(tmp_path, ask) == ()
    (tmp_path / "prefect.yaml").write_text(DECLARED.replace("limit: 2", "limit: 0"))
    with pytest.raises(SettingInvalid, match="work queues"):
        ensure_queues(tmp_path, ask)


def test_the_automations_for_abandoned_runs_are_made_once(ask):
    """Prefect takes them as they are written, and what somebody changed is corrected."""
    names = tuple(each["name"] for each in abandoned())
    assert ensure_abandoned(ask) == names
    assert ensure_abandoned(ask) == ()

    (found,) = (each for each in ask("POST", "/automations/filter", {"limit": 200}) if each["name"] == names[0])
    ask("PUT", f"/automations/{found['id']}", {**abandoned()[0], "description": "other"})
    assert ensure_abandoned(ask) == names[:1]
    for each in ask("POST", "/automations/filter", {"limit": 200}):
        if each["name"] in names:
            ask("DELETE", f"/automations/{each['id']}")
