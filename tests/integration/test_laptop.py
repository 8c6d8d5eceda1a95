"""The laptop with its real parts, in a home and on ports of the test."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest
from botocore.exceptions import ClientError

from cscm_laptop.emulator_service import _wanted, locate_root_key, open_root_session
from cscm_laptop.engine import read_engine_url
from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState, list_records, load_state, reset
from cscm_laptop.ports import request
from cscm_laptop.services import start_time
from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.model.container import MANAGED
from supply_chain.model.tier import TierName
from tests.support.command import ROOT, copy_deployments
from tests.support.place import free_ports
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.real

FLOW = "from prefect import flow\n\n\n@flow\nasync def greet(name: str = 'you') -> str:\n    return f'hello {name}'\n"
DEPLOYMENTS = """
deployments:
- {name: greeting, entrypoint: "flows.greet:greet", work_pool: {name: supply-chain}}
- {name: on-demand, entrypoint: "flows.respond:alert", work_pool: {name: supply-chain}}
"""
"""A deployment of the test, and the one that sends the alerts of automations."""


class Laptop:
    """A project with one more flow, the real code and documents, and the `cscm` command."""

    def __init__(self, directory: Path) -> None:
        self.project, self.home = directory / "project", Home(directory / "project", directory / "home")
        self.emulator, self.prefect = free_ports(2)
        copy_deployments(self.project)
        (self.project / "deployments/profiles/laptop.yaml").write_text(
            f"ports: {{emulator: {self.emulator}, prefect: {self.prefect}}}\ndatabase: starter\n"
        )
        for name in ("src", "blocks", "tasks", "pyproject.toml", "requirements.lock"):
            (self.project / name).symlink_to(ROOT / name)
        (self.project / "flows").mkdir()
        for file in ROOT.glob("flows/*.py"):
            (self.project / "flows" / file.name).symlink_to(file)
        (self.project / "flows" / "greet.py").write_text(FLOW)
        (self.project / "prefect.yaml").write_text(DEPLOYMENTS)

    def share(self, other: Home) -> None:
        """Use the tools and the emulator's Python environment of another home, which nothing here changes."""
        shutil.copytree(other.tools, self.home.tools, copy_function=os.symlink)
        self.home.emulator.mkdir()
        for part in ("bin", "lib", "pyvenv.cfg"):
            (self.home.emulator / part).symlink_to(other.emulator / part)
        (self.home.emulator / "made-from").write_text(_wanted(self.home), encoding="ascii")

    def cscm(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from cscm.main import main; main()", *arguments],
            cwd=self.project,
            env={
                **os.environ,
                "CSCM_HOME": str(self.home.directory),
                "CSCM_PROJECT": str(self.project),
                "PYTHONPATH": f"{ROOT}/src:{ROOT}",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    @property
    def state(self) -> LaptopState:
        return load_state(self.home)

    @property
    def login(self) -> str:
        return (self.home.state / "prefect.auth").read_text().strip()

    def pids(self) -> dict[str, int]:
        return {record.name: record.pid for record in list_records(self.home)}

    def client(self, tier: TierName, service: str) -> Any:
        """Return a client with a tier's role, created as the blocks do."""
        state, identity = self.state, self.state.identities[tier]
        where = {"endpoint_url": state.endpoint_url, "region_name": state.region}
        user = boto3.Session(identity.access_key_id, identity.secret_access_key)
        role = user.client("sts", **where).assume_role(RoleArn=identity.role_arn, RoleSessionName="test")["Credentials"]
        session = boto3.Session(role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"])
        return session.client(service, **where)


@pytest.fixture(scope="module")
def laptop(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    made = Laptop(tmp_path_factory.mktemp("laptop"))
    made.share(home)
    try:
        made.cscm("up")
        yield made
    finally:
        made.cscm("reset", "--yes")


def may(call: Callable[..., Any], **arguments: Any) -> bool:
    """Tell whether AWS allows the call; any error but a denial is raised."""
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDeniedException":
            raise
        return False
    return True


def test_doctor_reports_no_problem_after_up(laptop: Laptop) -> None:
    """All parts are in its report. Another laptop on the engine may have environments of the same names."""
    lines = json.loads(laptop.cscm("doctor", "--json", check=False).stdout)

    assert [line for line in lines if not line["ok"] and line["name"] != "environments"] == []
    assert {"docker engine", "emulator", "prefect server", "worker", "vulnerability database"} <= {
        line["name"] for line in lines
    }


def test_second_up_starts_and_registers_nothing(laptop: Laptop) -> None:
    """Running parts are reused, and nothing is registered again."""
    laptop.cscm("up")
    before = laptop.pids()
    done = laptop.cscm("up")

    assert laptop.pids() == before
    assert "starting" not in done.stdout
    assert "registering" not in done.stdout


def test_secret_files_are_readable_by_the_user_only(laptop: Laptop) -> None:
    """They contain identities, access keys and Prefect's login."""
    for name in ("laptop.json", "access-keys.json", "prefect.auth", "aws/root-key.json"):
        assert (laptop.home.state / name).stat().st_mode & 0o777 == 0o600


def test_prefect_api_requires_the_login(laptop: Laptop) -> None:
    """Its blocks contain secrets."""
    assert request("GET", laptop.prefect, "/api/admin/version")[0] == 401
    assert request("GET", laptop.prefect, "/api/admin/version", auth=laptop.login)[0] == 200


def test_worker_runs_a_deployment(laptop: Laptop) -> None:
    """The run is started through the API and completes."""
    _, found = request("GET", laptop.prefect, "/api/deployments/name/greet/greeting", auth=laptop.login)
    path = f"/api/deployments/{found['id']}/create_flow_run"
    _, made = request("POST", laptop.prefect, path, body={"parameters": {"name": "me"}}, auth=laptop.login)
    end = time.monotonic() + PATIENCE
    state = None
    while state not in ("COMPLETED", "FAILED", "CRASHED") and time.monotonic() < end:
        time.sleep(0.3)
        _, run = request("GET", laptop.prefect, f"/api/flow_runs/{made['id']}", auth=laptop.login)
        state = run["state"]["type"]

    assert state == "COMPLETED"


def test_each_tier_has_one_prefect_block_with_its_role(laptop: Laptop) -> None:
    """The flows get their credentials from these blocks."""
    _, found = request("POST", laptop.prefect, "/api/block_documents/filter", body={}, auth=laptop.login)
    tiers = {
        document["name"]: document["data"]["role_arn"]
        for document in found
        if document["block_type"]["slug"] == "supply-chain-tier"
    }

    assert tiers == {str(tier): identity.role_arn for tier, identity in laptop.state.identities.items()}


def test_tier_signs_with_its_own_key_only(laptop: Laptop) -> None:
    """This holds for aliases and ARNs; root can sign with no key."""
    message = {"Message": b"digest", "SigningAlgorithm": "ECDSA_SHA_256"}
    root = open_root_session(locate_root_key(laptop.home), laptop.state.region)
    for identity in laptop.state.identities.values():
        for key in (identity.signing_alias, identity.signing_key_arn):
            assert not may(root.client("kms", endpoint_url=laptop.state.endpoint_url).sign, KeyId=key, **message)
    for tier in TierName:
        kms = laptop.client(tier, "kms")
        for owner, identity in laptop.state.identities.items():
            for key in (identity.signing_alias, identity.signing_key_arn):
                assert may(kms.sign, KeyId=key, **message) is (tier is owner)


def test_storage_key_rotates(laptop: Laptop) -> None:
    """Curation can verify it."""
    kms = laptop.client(TierName.CURATION, "kms")

    assert kms.get_key_rotation_status(KeyId=laptop.state.storage_key)["KeyRotationEnabled"]


def test_access_key_of_a_tier_can_only_assume_its_role(laptop: Laptop) -> None:
    """A leaked block gives a role whose use is logged, not the account."""
    state, identity = laptop.state, laptop.state.identities[TierName.DEVELOPMENT]
    user = boto3.Session(identity.access_key_id, identity.secret_access_key)
    where = {"endpoint_url": state.endpoint_url, "region_name": state.region}

    assert not may(user.client("ecr", **where).describe_repositories)
    with pytest.raises(ClientError, match="not authorized"):
        user.client("sts", **where).assume_role(
            RoleArn=state.identities[TierName.CURATION].role_arn, RoleSessionName="test"
        )


def test_account_survives_kill_9_of_the_emulator(laptop: Laptop) -> None:
    """`cscm up` restores identities and keys."""
    before = laptop.state
    pid = laptop.pids()["emulator"]
    os.kill(pid, signal.SIGKILL)
    while start_time(pid) is not None:
        time.sleep(0.05)

    laptop.cscm("up")

    assert laptop.pids()["emulator"] != pid
    assert laptop.state == before


@dataclass(frozen=True)
class Restart:
    """A laptop that was stopped, could not start on a busy port, and was started again."""

    before: LaptopState
    running: dict[str, bool]
    """Whether each part ran between."""
    alive: list[int]
    """Processes of the parts that ran between."""
    busy: subprocess.CompletedProcess[str]
    again: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def restart(laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Restart:
    before, pids = laptop.state, laptop.pids()
    laptop.cscm("down")
    alive = [pid for pid in pids.values() if start_time(pid) is not None]
    parts = json.loads(laptop.cscm("status", "--json").stdout)
    running = {part["name"]: part["running"] for part in parts if part["name"] != "engine"}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        profile = tmp_path_factory.mktemp("busy") / "profile.yaml"
        profile.write_text(
            f"ports: {{emulator: {other.getsockname()[1]}, prefect: {laptop.prefect}}}\ndatabase: starter\n"
        )
        busy = laptop.cscm("up", check=False, CSCM_PROFILE=str(profile))
    return Restart(before, running, alive, busy, laptop.cscm("up"))


def test_down_stops_all_parts_and_keeps_the_state(laptop: Laptop, restart: Restart) -> None:
    """The next `cscm up` uses the same account and registers nothing."""
    assert restart.alive == []
    assert restart.running == {"emulator": False, "prefect": False, "prefork": False, "worker": False, "bridge": False}
    assert "registering" not in restart.again.stdout
    assert laptop.state == restart.before


def test_busy_port_is_reported_with_its_owner_and_setting(restart: Restart) -> None:
    """A person can act on the message alone."""
    assert restart.busy.returncode == 1
    assert f"pid {os.getpid()}" in restart.busy.stderr
    assert "ports.emulator" in restart.busy.stderr
    assert "Traceback" not in restart.busy.stderr


def test_reset_keeps_engine_resources_of_another_home(tmp_path: Path, laptop: Laptop) -> None:
    """Resources of a lost home are removed by its owner name."""
    client, name = docker.DockerClient(read_engine_url()), uuid.uuid4().hex
    homes = [Home(tmp_path, tmp_path / which) for which in ("mine", "other")]
    for number, home in enumerate(homes):
        home.create()
        engine = DockerEngine(client, home.owner)
        engine.create_volume(f"{name}-{number}", {MANAGED: "true"})
        engine.create_network(f"{name}-{number}", {MANAGED: "true"}, internal=True)

    def left() -> list[list[str | None]]:
        listed = (client.volumes.list(filters={"name": name}), client.networks.list(names=[name]))
        return [[each.name for each in found] for found in listed]

    try:
        reset(homes[0], print)
        assert left() == [[f"{name}-1"], [f"{name}-1"]]
    finally:
        lost = homes[1].owner
        shutil.rmtree(homes[1].directory)
        done = laptop.cscm("reset", "--yes", "--left-by", lost)
        assert done.returncode == 0, done.stderr
        assert left() == [[], []]
        assert laptop.home.directory.is_dir()
        client.close()
