"""Whoever may log in to the Prefect server runs no code of theirs by a deployment, a work pool or a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from supply_chain.laptop.home import Home
from supply_chain.laptop.laptop import LaptopState
from tests.real.access import Prefect

pytestmark = pytest.mark.real

OURS = "morning/every-15-minutes"
"""A deployment of the project that changes nothing."""


@pytest.fixture
def prefect(laptop: LaptopState, home: Home) -> Prefect:
    return Prefect.of(home, laptop.prefect_api_url)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What code that is not the project's would leave."""
    return tmp_path / "it-ran"


def patched(prefect: Prefect, path: str, body: dict[str, Any]) -> None:
    httpx.patch(f"{prefect.url}/{path}", json=body, auth=prefect.auth, timeout=30).raise_for_status()


def created(prefect: Prefect, deployment: str, variables: dict[str, Any]) -> httpx.Response:
    body = {"job_variables": variables, "state": {"type": "SCHEDULED"}}
    return httpx.post(
        f"{prefect.url}/deployments/{deployment}/create_flow_run", json=body, auth=prefect.auth, timeout=30
    )


@pytest.mark.parametrize("name", ["command", "env", "working_dir", "image", "name"])
def test_job_variables_are_refused_by_the_server(prefect: Prefect, marker: Path, name: str) -> None:
    """Of a run, and of a deployment: the work pool has none."""
    ours = prefect.get(f"deployments/name/{OURS}")
    value = {"env": {"PYTHONPATH": str(marker)}}.get(name, f"touch {marker}")

    answer = created(prefect, ours["id"], {name: value})
    of_deployment = httpx.patch(
        f"{prefect.url}/deployments/{ours['id']}", json={"job_variables": {name: value}}, auth=prefect.auth, timeout=30
    )

    assert answer.status_code == of_deployment.status_code == 422, (answer.text, of_deployment.text)


@pytest.fixture
def loose_pool(prefect: Prefect, marker: Path) -> Iterator[None]:
    """A work pool whose template somebody changed: it says another command, and takes any variables."""
    before = prefect.get("work_pools/laptop")["base_job_template"]
    job = {"command": f"touch {marker}", "env": {"LD_PRELOAD": "/nonexistent.so", "CSCM_HOME": str(marker.parent)},
           "working_dir": str(marker.parent)}  # fmt: skip
    patched(prefect, "work_pools/laptop", {"base_job_template": {"job_configuration": job, "variables": {}}})
    yield
    patched(prefect, "work_pools/laptop", {"base_job_template": before})


def test_changed_work_pool_changes_no_command(prefect: Prefect, loose_pool: None, marker: Path) -> None:
    """The worker has its own."""
    made = created(prefect, prefect.get(f"deployments/name/{OURS}")["id"], {"command": f"touch {marker}"})
    made.raise_for_status()

    run = prefect.ended(made.json()["id"])

    assert run["state_type"] == "COMPLETED", run["state"]
    assert not marker.exists()


@pytest.fixture
def changed(prefect: Prefect, marker: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The project's own deployment, changed on the server; its name."""
    ours = prefect.get(f"deployments/name/{OURS}")
    patched(prefect, f"deployments/{ours['id']}", evil(request.param, marker))
    yield OURS
    before = {key: ours[key] for key in ("entrypoint", "pull_steps", "path")}
    patched(prefect, f"deployments/{ours['id']}", before)


def evil(how: str, marker: Path) -> dict[str, Any]:
    """Code of whoever logged in: by the entrypoint, or by a step that fetches code."""
    code = marker.parent / "evil.py"
    code.write_text(f"from pathlib import Path\nfrom prefect import flow\nPath({str(marker)!r}).touch()\n"
                    "@flow\ndef morning(hours: int = 24): pass\n")  # fmt: skip
    script = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {marker}"}}
    return {"entrypoint": f"{code}:morning"} if how == "entrypoint" else {"pull_steps": [script]}


@pytest.mark.parametrize("changed", ["entrypoint", "pull steps"], indirect=True)
def test_changed_deployment_runs_nothing(prefect: Prefect, changed: str, marker: Path) -> None:
    """And its run says what is wrong."""
    run = prefect.ended(prefect.start(changed))

    assert (run["state_type"], run["state_name"]) == ("FAILED", "Foreign")
    assert "Nothing was run" in run["state"]["message"] and changed in run["state"]["message"]
    assert not marker.exists()


@pytest.mark.parametrize("how", ["entrypoint", "pull steps"])
def test_deployment_of_somebodys_own_runs_nothing(prefect: Prefect, marker: Path, how: str) -> None:
    """Also where it names the project's code."""
    flow = prefect.ask("flows/", {"name": "theirs"})
    body = {"name": "theirs", "flow_id": flow["id"], "work_pool_name": "laptop", "entrypoint": "flows.morning:morning"}
    made = prefect.ask("deployments/", body | evil(how, marker))
    try:
        run = prefect.ended(prefect.start("theirs/theirs"))
        assert (run["state_type"], run["state_name"]) == ("FAILED", "Foreign")
        assert "declares no deployment theirs/theirs" in run["state"]["message"]
        assert not marker.exists()
    finally:
        prefect.delete(f"deployments/{made['id']}")
        prefect.delete(f"flows/{flow['id']}")
