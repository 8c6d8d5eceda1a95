"""up, down and reset, without the parts themselves."""

import json
import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from cscm.main import main
from cscm_laptop import firewall, laptop, prefect_server
from cscm_laptop.blocks import make_workbench_block
from cscm_laptop.engine import Engine
from cscm_laptop.home import Home
from cscm_laptop.laptop import (
    LaptopState,
    ensure_people_owner,
    find_freeze_author,
    load_state,
    register_changed,
    reset,
    select_needed_pins,
    stop_laptop,
)
from cscm_laptop.profile import Ports, Profile
from cscm_laptop.services import Record, read_boot_id, start_time
from supply_chain.adapters.aws.accounts import BridgeIdentity, TierIdentity
from supply_chain.adapters.vulndb import Database
from supply_chain.errors import ComponentFailed, EngineUnavailable, SettingInvalid
from supply_chain.model.tier import TierName
from supply_chain.scratch import write_private
from tests.support.command import ROOT


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "project", tmp_path / "home")
    (made.project / "blocks").mkdir(parents=True)
    made.create()
    return made


@pytest.fixture
def state(tmp_path):
    identity = TierIdentity(
        access_key_id="AKIA",
        secret_access_key="secret",
        role_arn="arn:aws:iam::1:role/r",
        signing_alias="alias/a",
        signing_key_arn="arn:aws:kms:us-east-1:1:key/k",
        public_key="PEM",
    )
    return LaptopState(
        endpoint_url="http://127.0.0.1:4566",
        region="us-east-1",
        account="1",
        registry="127.0.0.1:4566",
        identities=dict.fromkeys(TierName, identity),
        bridge=BridgeIdentity(
            access_key_id="AKIB",
            secret_access_key="secret",
            role_arn="arn:aws:iam::1:role/b",
            queue="http://127.0.0.1:4566/1/pushed",
            dead="http://127.0.0.1:4566/1/dead",
        ),
        storage_key="arn:s",
        content_key="arn:c",
        forensics_key="arn:f",
        prefect_api_url="http://127.0.0.1:4200/api",
        project=tmp_path,
        tools=tmp_path,
        database_directory=tmp_path,
        state=tmp_path,
        database=Database(kind="starter", built=datetime(2026, 1, 1, tzinfo=UTC), digest="xxh64:1", directory=tmp_path),
        engine=Engine(url="unix:///x", version="26.1.5", client=tmp_path),
        owner="c0ffee",
        inventory="sqlite:////srv/inventory.db",
        people_owner="PEM of the owner",
        build_network="default",
        ca_bundle=None,
        bases={"python": None},
    )


def test_workbench_has_people_owner_and_start_of_signed_policies(state):
    """By these, the gates find out whether policies are active."""
    since = datetime(2026, 11, 1, tzinfo=UTC)
    block = make_workbench_block(state.model_copy(update={"policies_signed_since": since}))

    assert (block.people_owner, block.installation) == ("PEM of the owner", "laptop")
    assert block.policies_signed_since == since
    assert make_workbench_block(state).policies_signed_since is None


def test_blocks_are_registered_only_after_a_change(home, state):
    """The second `cscm up` does not even import Prefect."""
    registered: list[LaptopState] = []
    for offered in (state, state, state.model_copy(update={"storage_key": "arn:other"})):
        register_changed(offered, home, print, registered.append)
    (home.project / "blocks" / "tier.py").write_text("new code")
    register_changed(registered[-1], home, print, registered.append)

    assert [offered.storage_key for offered in registered] == ["arn:s", "arn:other", "arn:other"]


def test_failed_block_registration_is_repeated(home, state):
    """The stamp is written after the registration."""

    def fails(_):
        raise ComponentFailed("no answer\ntry again")

    with pytest.raises(ComponentFailed):
        register_changed(state, home, print, fails)
    registered: list[LaptopState] = []
    register_changed(state, home, print, registered.append)

    assert registered == [state]


def test_owner_of_the_people_gets_one_key_pair(home, program):
    """Without a password; what an interrupted run left is made again."""
    cosign = program("cosign")
    tool = cosign.does('echo PUBLIC > "$3.pub"; echo PRIVATE > "$3.key"')
    (home.state / "people.new").mkdir()
    (home.state / "people.new" / "owner.key").write_text("half")

    assert [ensure_people_owner(tool, home) for _ in range(2)] == ["PUBLIC\n"] * 2

    assert (home.state / "people" / "owner.key").read_text() == "PRIVATE\n"
    assert (home.state / "people").stat().st_mode & 0o777 == 0o700
    (made,) = cosign.environments
    assert made["COSIGN_PASSWORD"] == ""


def test_laptop_state_is_read_back_as_written(home, state):
    """This includes secrets; a missing state is an error that names `cscm up`."""
    with pytest.raises(ComponentFailed, match="cscm up"):
        load_state(home)

    write_private(home.laptop_state, state.model_dump_json())

    assert load_state(home) == state


def recorded(home, name, process, **more):
    record = Record(
        name=name,
        pid=process.pid,
        started=start_time(process.pid),
        boot=read_boot_id(),
        since=datetime.now(UTC),
        address="",
        fingerprint="",
    ).model_copy(update=more)
    (home.run / f"{name}.json").write_text(record.model_dump_json())


def test_changed_work_queue_is_corrected_without_new_deployments(home, monkeypatch):
    """Its limit keeps a flood of events from blocking other runs."""
    definitions = "{limit: 9, queues: [{name: pushes, priority: 1, limit: 2}], work_pool: {name: supply-chain}}"
    (home.project / "prefect.yaml").write_text(f"definitions: {definitions}\ndeployments: []\n")
    wanted, sent = prefect_server.hash_deployments(home.project), []
    messages: list[str] = []
    (home.state / "prefect").mkdir()
    write_private(home.state / "prefect" / "deployments.json", json.dumps({"made": wanted}))

    def ask(method, path, body=None):
        if method == "PATCH":
            sent.append((path, body))
        limits = {"supply-chain": 9, "pushes": 100}
        pool, queue = ({"name": name, "concurrency_limit": limit} for name, limit in limits.items())
        found = {"/work_pools/filter": [pool], "/work_pools/supply-chain/queues/filter": [{**queue, "priority": 1}]}
        return found.get(path, [])[(body or {}).get("offset", 0) :]

    monkeypatch.setattr(prefect_server, "make_prefect_api", lambda *_: ask)
    laptop._deployments(Profile(), home, messages.append)

    assert sent == [("/work_pools/supply-chain/queues/pushes", {"priority": 1, "concurrency_limit": 2})]
    assert messages == ["work queues: pushes"]


def test_down_stops_only_own_processes(home):
    """A PID may belong to another process by now."""
    sleep = (sys.executable, "-c", "import time; time.sleep(60)")
    with subprocess.Popen(sleep) as ours, subprocess.Popen(sleep) as other:
        try:
            recorded(home, "worker", ours)
            recorded(home, "emulator", other, started=1)

            stop_laptop(home, print)

            assert (start_time(ours.pid), other.poll()) == (None, None)
        finally:
            ours.kill()
            other.kill()


def test_down_without_chain_does_nothing(tmp_path):
    """It creates no directory either."""
    stop_laptop(Home(tmp_path, tmp_path / "home"), print)

    assert not (tmp_path / "home").exists()


def test_reset_refuses_directory_that_is_no_home(tmp_path):
    """A wrong CSCM_HOME must not delete files of the user."""
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(SettingInvalid, match="CSCM_HOME"):
        reset(Home(tmp_path, tmp_path), print)

    assert (tmp_path / "thesis.txt").exists()


def test_reset_removes_unused_home_without_engine(home, monkeypatch):
    """A home that was never started left nothing in an engine."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home.directory}/nothing.sock")

    reset(home, print)
    reset(home, print)

    assert not home.directory.exists()


def test_reset_keeps_used_home_if_engine_is_unavailable(home, state, monkeypatch):
    """Containers may still run, and the home is needed to remove them."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home.directory}/nothing.sock")
    write_private(home.laptop_state, state.model_dump_json())

    with pytest.raises(EngineUnavailable, match=rf"nothing\.sock.*\.\nNothing was removed.*cscm.owner={home.owner}"):
        reset(home, print)

    assert load_state(home) == state


def test_reset_starts_engine_that_down_stopped(home, state, monkeypatch):
    """Deployments outlive the engine."""
    done, owner = [], home.owner
    write_private(home.laptop_state, state.model_dump_json())
    monkeypatch.setattr(laptop, "wake", lambda *_: done.append("started"))
    monkeypatch.setattr(laptop, "clear", lambda label, images, _: done.append(f"{label} {images}"))

    reset(home, print)

    assert done == ["started", f"cscm.owner={owner} 127.0.0.1:4566/"] and not home.directory.exists()


@pytest.mark.parametrize(("user", "removed"), [
    (0, ["cluster of lost", "rules of lost", "groups of lost", "cscm.owner=lost None"]),
    (1000, ["cluster of lost", "cscm.owner=lost None"]),
])  # fmt: skip
def test_reset_of_lost_home_removes_its_rules_and_groups_as_root(monkeypatch, user, removed):
    """Only root may remove rules and groups."""
    done = []
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(laptop, "clear", lambda label, images, _: done.append(f"{label} {images}"))
    monkeypatch.setattr(firewall, "remove_rules", lambda owner: done.append(f"rules of {owner}"))
    monkeypatch.setattr(laptop, "remove_lost_cluster", lambda owner, _: done.append(f"cluster of {owner}"))
    monkeypatch.setattr(laptop, "remove_groups", lambda owner: done.append(f"groups of {owner}"))

    result = CliRunner().invoke(main, ["reset", "--yes", "--left-by", "lost"])

    assert result.exit_code == 0 and done == removed


class _Server(BaseHTTPRequestHandler):
    """The part of Prefect's API that serves variables."""

    value = None

    def do_GET(self):
        exists = self.path == "/api/variables/name/promotions_frozen" and self.value is not None
        body = json.dumps({"value": self.value} if exists else {"detail": "Variable not found"}).encode()
        self.send_response(200 if exists else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("yes please", "promotions are frozen: the variable promotions_frozen does not say by whom"),
        ({"by": "ann", "reason": "holidays", "since": "2026-11-24T12:00:00Z"}, "promotions are frozen by ann since"),
    ],
)
def test_status_reports_promotion_freeze(home, monkeypatch, value, expected):
    """Without the report, stopped promotions would look like a failure."""
    monkeypatch.setattr(_Server, "value", value)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        text = find_freeze_author(Profile(ports=Ports(prefect=server.server_address[1])), home)
        server.shutdown()

    assert text.startswith(expected) and bool(text) is bool(expected)
    assert find_freeze_author(Profile(ports=Ports(prefect=server.server_address[1])), home) == "", (
        "nor is a server that is gone"
    )


def test_helm_is_needed_only_if_project_has_chart(tmp_path):
    """A laptop without a chart builds no helm; `cscm up` and `cscm doctor` look at the same tools."""
    (tmp_path / "deployments/hello").mkdir(parents=True)
    shutil.copy(ROOT / "deployments/tools.yaml", tmp_path / "deployments/tools.yaml")
    before = set(select_needed_pins(tmp_path).tools)

    (tmp_path / "deployments/hello/Chart.yaml").touch()

    assert set(select_needed_pins(tmp_path).tools) - before == {"helm"} and "syft" in before
