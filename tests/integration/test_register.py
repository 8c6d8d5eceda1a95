"""Registration of the project on an existing Prefect server, by one command."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.project import MARKER
from orchestration.registration import read_declared_deployments
from orchestration.registration.automations import read_automations
from orchestration.registration.views import read_views
from tests.integration.authenticated_server import Server
from tests.support.command import ROOT, cscm
from tests.support.place import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.real
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    it = Server(free_port(), tmp_path_factory.mktemp("prefect"))
    process = subprocess.Popen(
        it.command, env={**os.environ, **it.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(it.healthy)
        yield it
    finally:
        process.terminate()
        process.wait(30)


def test_register_fails_without_server_login_or_work_pool(server: Server) -> None:
    """Nothing is registered by halves: there are no automations and no views."""
    nobody = {**server.environment, "PREFECT_API_AUTH_STRING": "ann:wrong"}

    assert (
        cscm("register", environment={"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"}).code()
        == "component.failed"
    )
    assert "401 Unauthorized" in cscm("register", environment=nobody).error
    lacking = cscm("register", environment=server.environment)
    assert (
        lacking.code() == "component.failed"
        and "the work pool 'supply-chain', which the server does not have" in lacking.error
    )
    assert "prefect work-pool create supply-chain" in lacking.error
    assert server.ask("automations/filter", {}) == [] == server.ask("saved_searches/filter", {})


def test_register_fails_without_address_or_project(server: Server, tmp_path: Path) -> None:
    """Neither the laptop's server nor an empty directory is a default."""
    (tmp_path / MARKER).parent.mkdir(parents=True)
    (tmp_path / MARKER).touch()
    nowhere = cscm("register", environment=server.environment, cwd=tmp_path)
    unsaid = cscm("register")

    assert unsaid.code() == nowhere.code() == "setting.invalid"
    assert "PREFECT_API_URL does not name a Prefect server" in unsaid.error
    assert "declares no deployments" in nowhere.error


def test_register_creates_everything_once(server: Server) -> None:
    """Deployments, automations, views and block types are those of a laptop."""
    server.ask("work_pools/", {"name": "supply-chain", "type": "process", "base_job_template": {}})

    first = cscm("register", environment=server.environment)
    second = cscm("register", environment=server.environment)

    assert (first.status, second.status) == (0, 0), first.stderr + second.stderr
    assert f"registered on {server.url}" in first.stdout and "automations: " in first.stdout
    assert "automations: " not in second.stdout and "views: " not in second.stdout
    flows = {each["id"]: each["name"] for each in server.ask("flows/filter", {})}
    registered = {f"{flows[each['flow_id']]}/{each['name']}" for each in server.ask("deployments/filter", {})}
    assert registered == read_declared_deployments(ROOT)
    automations = {each.name for each in read_automations(ROOT / "deployments/automations")}
    assert automations <= {each["name"] for each in server.ask("automations/filter", {})}
    assert {each.name for each in read_views(ROOT)} == {
        each["name"] for each in server.ask("saved_searches/filter", {})
    }
    kinds = {each["slug"] for each in server.ask("block_types/filter", {})}
    assert kinds >= {"supply-chain-tier", "supply-chain-workbench", "supply-chain-inventory", "supply-chain-bridge"}


def test_commands_of_the_how_to_create_the_blocks_of_a_machine(server: Server) -> None:
    """The commands are read from the documentation."""
    text = (ROOT / "docs/how-to/aws.md").read_text(encoding="utf-8")
    (block,) = (each for each in FENCE.findall(text) if "Workbench(" in each)
    environment = {**os.environ, **server.environment}
    done = subprocess.run(
        ["bash", "-e"], input=block, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    for kind, name in (("workbench", "workbench"), ("container-host", "laptop"), ("inventory", "inventory")):
        made = server.ask(f"block_types/slug/supply-chain-{kind}/block_documents/name/{name}")
        assert made["data"], kind
