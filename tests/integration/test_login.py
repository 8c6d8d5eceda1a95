"""A user who is logged in to Prefect cannot run foreign code by a deployment, a work pool or a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cscm_laptop.prefect_server import POOL
from orchestration.registration import deploy
from orchestration.registration.work_pools import make_job_template
from tests.integration.authenticated_server import LOGIN, Server
from tests.support.access import Prefect
from tests.support.command import ROOT
from tests.support.place import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

OURS = "look/daily"
"""The only deployment of the project."""
DECLARED = (
    "name: a-project\ndeployments:\n- {name: daily, entrypoint: 'harmless:look', work_pool: {name: supply-chain}}\n"
)
FLOW = """
import os
from pathlib import Path
from prefect import flow

@flow
def look():
    Path("seen").write_text(f"{Path.cwd()} {os.environ.get('INJECTED', 'nothing')} {os.environ['OF_THE_WORKER']}")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one flow, which records where and with which variables it ran."""
    directory = tmp_path_factory.mktemp("project")
    (directory / "prefect.yaml").write_text(DECLARED)
    (directory / "harmless.py").write_text(FLOW)
    return directory


@pytest.fixture(scope="module")
def prefect(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server with a work pool as `cscm up` creates it and the project's worker, as a logged-in user sees it."""
    server = Server(free_port(), tmp_path_factory.mktemp("prefect"))
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT, project)))
    settings = {**server.environment, "PREFECT_WORKER_QUERY_SECONDS": "0.5", "OF_THE_WORKER": "ours"}
    environment = {**os.environ, **settings, "PYTHONPATH": path}
    with (project / "log").open("wb") as log:
        processes = [subprocess.Popen(server.command, env=environment, stdout=log, stderr=log)]
        try:
            eventually(server.healthy, describe=lambda: (project / "log").read_text()[-2000:])
            user, _, password = LOGIN.partition(":")
            login = Prefect(server.url, (user, password))
            body = {"type": "process", "base_job_template": make_job_template(COMMAND, project)}
            login.ask("work_pools/", {"name": POOL, **body})
            deploy(project, [sys.executable], environment, asking(login), lambda _: None)
            worker = [sys.executable, "-m", "orchestration.worker", "--pool", POOL, "--command", COMMAND]
            processes.append(subprocess.Popen(worker, env=environment, cwd=project, stdout=log, stderr=log))
            yield login
        finally:
            for each in processes[1:]:
                each.kill()  # no run is left that the worker would have to wait for
            processes[0].terminate()
            for each in processes:
                each.wait(30)


COMMAND = f"{sys.executable} -m orchestration.flow_run"


def asking(login: Prefect) -> Any:
    """Return a function that calls the server as the project's registration does."""

    def ask(method: str, path: str, body: Any = None) -> Any:
        answer = login.send(lambda client: client.request(method, f"{login.url}{path}", json=body))
        return answer.raise_for_status().json() if answer.content else None

    return ask


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that only foreign code would create."""
    return tmp_path / "it-ran"


def patched(prefect: Prefect, path: str, body: dict[str, Any]) -> None:
    prefect._answer(lambda client: client.patch(f"{prefect.url}/{path}", json=body))


def created(prefect: Prefect, deployment: str, variables: dict[str, Any]) -> httpx.Response:
    body = {"job_variables": variables, "state": {"type": "SCHEDULED"}}
    return prefect.send(
        lambda client: client.post(f"{prefect.url}/deployments/{deployment}/create_flow_run", json=body)
    )


@pytest.mark.parametrize("name", ["command", "env", "working_dir", "image", "name"])
def test_server_refuses_job_variables(prefect: Prefect, marker: Path, name: str) -> None:
    """The template of the work pool has none."""
    value = {"env": {"PYTHONPATH": str(marker)}}.get(name, f"touch {marker}")

    answer = created(prefect, prefect.get(f"deployments/name/{OURS}")["id"], {name: value})

    assert answer.status_code == 422 and f"'{name}' was unexpected" in answer.text


@pytest.fixture
def loose_pool(prefect: Prefect, marker: Path) -> Iterator[None]:
    """A work pool whose template was changed: it has another command and accepts all variables."""
    before = prefect.get("work_pools/supply-chain")["base_job_template"]
    job = {"command": f"touch {marker}", "env": {"INJECTED": "theirs"},
           "working_dir": str(marker.parent)}  # fmt: skip
    patched(
        prefect,
        "work_pools/supply-chain",
        {"base_job_template": {"job_configuration": job, "variables": {"properties": {}}}},
    )
    yield
    patched(prefect, "work_pools/supply-chain", {"base_job_template": before})


def test_declared_deployment_runs_in_the_project(prefect: Prefect, project: Path) -> None:
    """It has the worker's environment."""
    run = prefect.ended(prefect.start(OURS))

    assert run["state_type"] == "COMPLETED", run["state"]
    assert (project / "seen").read_text() == f"{project} nothing ours"


def test_changed_work_pool_does_not_change_the_command(
    prefect: Prefect, project: Path, loose_pool: None, marker: Path
) -> None:
    """The worker uses its own command, environment and directory."""
    (project / "seen").unlink(missing_ok=True)
    made = created(prefect, prefect.get(f"deployments/name/{OURS}")["id"], {"command": f"touch {marker}"})
    made.raise_for_status()

    run = prefect.ended(made.json()["id"])

    assert run["state_type"] == "COMPLETED", run["state"]
    assert (project / "seen").read_text() == f"{project} nothing ours"
    assert not marker.exists()


@pytest.fixture
def changed(prefect: Prefect, marker: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The project's deployment, changed on the server; returns its name."""
    ours = prefect.get(f"deployments/name/{OURS}")
    patched(prefect, f"deployments/{ours['id']}", evil(request.param, marker))
    yield OURS
    before = {key: ours[key] for key in ("entrypoint", "pull_steps", "path")}
    patched(prefect, f"deployments/{ours['id']}", before)


def evil(how: str, marker: Path) -> dict[str, Any]:
    """Return a change that runs foreign code: by the entrypoint, or by a pull step."""
    code = marker.parent / "evil.py"
    code.write_text(f"from pathlib import Path\nfrom prefect import flow\nPath({str(marker)!r}).touch()\n"
                    "@flow\ndef look(): pass\n")  # fmt: skip
    script = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {marker}"}}
    return {"entrypoint": f"{code}:look"} if how == "entrypoint" else {"pull_steps": [script]}


@pytest.mark.parametrize("changed", ["entrypoint", "pull steps"], indirect=True)
def test_changed_deployment_runs_nothing_and_is_reported(prefect: Prefect, changed: str, marker: Path) -> None:
    """The run's message names what was changed."""
    run = prefect.ended(prefect.start(changed))

    assert (run["state_type"], run["state_name"]) == ("FAILED", "Foreign")
    assert "Nothing was run" in run["state"]["message"] and changed in run["state"]["message"]
    assert not marker.exists()


@pytest.mark.parametrize("how", ["entrypoint", "pull steps"])
def test_undeclared_deployment_runs_nothing(prefect: Prefect, marker: Path, how: str) -> None:
    """It is refused even if its entrypoint is the project's code."""
    flow = prefect.ask("flows/", {"name": "theirs"})
    body = {"name": "theirs", "flow_id": flow["id"], "work_pool_name": "supply-chain", "entrypoint": "harmless:look"}
    made = prefect.ask("deployments/", body | evil(how, marker))
    try:
        run = prefect.ended(prefect.start("theirs/theirs"))
        assert (run["state_type"], run["state_name"]) == ("FAILED", "Foreign")
        assert "declares no deployment theirs/theirs" in run["state"]["message"]
        assert not marker.exists()
    finally:
        prefect.delete(f"deployments/{made['id']}")
        prefect.delete(f"flows/{flow['id']}")
