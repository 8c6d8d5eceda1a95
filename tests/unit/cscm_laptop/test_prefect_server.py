"""The settings of the Prefect server and the registration of deployments."""

import ssl
import stat
from pathlib import Path

import pytest

from cscm_laptop.doctor import find_wrong_batches
from cscm_laptop.home import Home
from cscm_laptop.prefect_server import (
    ensure_auth_string,
    hash_deployments,
    make_prefect_environment,
    make_server_service,
    make_unset_command,
    make_worker_service,
    run_environment,
)
from cscm_laptop.profile import Ports, Profile
from orchestration.prefork_server import Settings, select_settings


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "project", tmp_path / "home")
    (made.project / "flows").mkdir(parents=True)
    made.create()
    return made


PROFILE = Profile(ports=Ports(prefect=4999))


def test_prefect_login_is_created_once_and_private(home):
    """Blocks contain secrets, and without a login the API serves them to every local user."""
    first, second = ensure_auth_string(home), ensure_auth_string(home)

    assert first == second
    assert first.startswith("cscm:")
    assert len(first) > 30
    assert stat.S_IMODE((home.state / "prefect.auth").stat().st_mode) == 0o600


def test_server_and_clients_share_environment(home):
    """All state is in the home, and the server requires the login of the clients."""
    given = make_prefect_environment(home, PROFILE)

    assert given["PREFECT_API_URL"] == "http://127.0.0.1:4999/api"
    assert given["PREFECT_API_AUTH_STRING"] == given["PREFECT_SERVER_API_AUTH_STRING"] == ensure_auth_string(home)
    assert Path(given["PREFECT_HOME"]).is_relative_to(home.directory)
    assert Path(given["PREFECT_RESULTS_LOCAL_STORAGE_PATH"]).is_relative_to(home.state)
    assert given["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_leases_are_stored_in_file_system(home):
    """Leases in memory would be lost with the server, and their slots would never be released."""
    assert make_prefect_environment(home, PROFILE)["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")


def test_runs_find_code_of_project(home):
    """The project need not be installed."""
    assert run_environment(home, PROFILE)["PYTHONPATH"] == f"{home.project}/src:{home.project}"


def test_command_lines_do_not_contain_login(home):
    """Every local user can read command lines."""
    secret = ensure_auth_string(home).partition(":")[2]

    for service in (make_server_service(home, PROFILE), make_worker_service(home, PROFILE)):
        assert secret not in " ".join(service.argv)


def test_ui_may_connect_only_to_its_own_server(home):
    """The content security policy in each response enforces it."""
    argv = make_server_service(home, PROFILE).argv
    name, _, policy = argv[argv.index("--header") + 1].partition(":")

    places = {word for part in policy.split(";") for word in part.split()[1:] if "://" in word or word == "*"}
    assert name == "content-security-policy"
    assert places == {"http://127.0.0.1:4999", "ws://127.0.0.1:4999"}
    assert {part.split()[0] for part in policy.split(";")} == {"default-src", "connect-src"}


def test_clients_trust_no_certificate_authority(home):
    """The API is on loopback without TLS; the certificate stays the same for the life of the home."""
    file = Path(make_prefect_environment(home, PROFILE)["PREFECT_API_SSL_CERT_FILE"])
    before = file.read_text()
    context = ssl.create_default_context(cafile=str(file))

    assert len(context.get_ca_certs()) == 0  # the certificate is no authority
    assert context.verify_mode is ssl.CERT_REQUIRED
    make_prefect_environment(home, PROFILE)
    assert file.read_text() == before
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("changed", ["prefect.yaml", "flows/chain.py", "pyproject.toml"])
def test_changed_files_change_fingerprint_of_deployments(home, changed):
    """The parameters of a flow are part of its deployment, as the UI shows them in a form."""
    (home.project / changed).write_text("before")
    before = hash_deployments(home.project)
    assert hash_deployments(home.project) == before

    (home.project / changed).write_text("after")

    assert hash_deployments(home.project) != before


def test_foreign_environment_variables_are_removed():
    """A Prefect profile of the user would redirect the deployments to another server."""
    assert make_unset_command(["PREFECT_PROFILE", "HOME", "AWS_PROFILE"]) == [
        "/usr/bin/env",
        "-u",
        "AWS_PROFILE",
        "-u",
        "PREFECT_PROFILE",
    ]


def test_wrong_batch_sizes_of_server_are_reported():
    """With the default sizes, each subflow waits seconds for the locked database."""
    recorder = {"batch_size": 1, "read_batch_size": 200, "flush_interval": 1.0}
    persister = {"batch_size": 500, "read_batch_size": 200, "flush_interval": 1.0}
    services = {
        "task_run_recorder": recorder,
        "event_persister": persister,
        "triggers": {"read_batch_size": 200},
    }

    assert find_wrong_batches({"server": {"services": services}}) == ["task_run_recorder_batch_size=1"]
    assert len(find_wrong_batches({})) == 7


@pytest.mark.parametrize("with_settings", [False, True])
def test_command_is_forked_with_and_without_settings_of_a_client(home, with_settings):
    """A command that another command starts has them."""
    server = Settings(own=select_settings(run_environment(home, PROFILE)), of_runs={})
    client = select_settings(make_prefect_environment(home, PROFILE)) if with_settings else {}

    assert server.fits_command(client)
    assert not server.fits_command({**client, "PREFECT_API_AUTH_STRING": "other"})
