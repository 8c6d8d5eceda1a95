"""What Prefect is started with, and when deployments are registered again."""

import ssl
import stat
from pathlib import Path

import pytest

from cscm_laptop.doctor import wrong_batches
from cscm_laptop.home import Home
from cscm_laptop.prefect_server import (
    auth_string,
    deployments_fingerprint,
    job_template,
    prefect_environment,
    run_environment,
    server,
    without,
    worker,
)
from cscm_laptop.profile import Ports, Profile


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "project", tmp_path / "home")
    (made.project / "flows").mkdir(parents=True)
    made.create()
    return made


PROFILE = Profile(ports=Ports(prefect=4999))


def test_the_login_is_made_once_and_private(home):
    """Blocks hold secrets, and without a login the API gives them to everyone on the machine."""
    first, second = auth_string(home), auth_string(home)

    assert first == second
    assert first.startswith("cscm:")
    assert len(first) > 30
    assert stat.S_IMODE((home.state / "prefect.auth").stat().st_mode) == 0o600


def test_server_and_clients_share_one_environment(home):
    """Nothing lies outside of the home, and the server asks for the login that the clients send."""
    given = prefect_environment(home, PROFILE)

    assert given["PREFECT_API_URL"] == "http://127.0.0.1:4999/api"
    assert given["PREFECT_API_AUTH_STRING"] == given["PREFECT_SERVER_API_AUTH_STRING"] == auth_string(home)
    assert Path(given["PREFECT_HOME"]).is_relative_to(home.directory)
    assert Path(given["PREFECT_RESULTS_LOCAL_STORAGE_PATH"]).is_relative_to(home.state)
    assert given["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_leases_outlive_the_server(home):
    """In its memory they would end with it, and the slots that they hold would never be free again."""
    assert prefect_environment(home, PROFILE)["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")


def test_runs_find_the_projects_code(home):
    """Also where the project is not installed."""
    assert run_environment(home, PROFILE)["PYTHONPATH"] == f"{home.project}/src:{home.project}"


def test_the_login_is_in_no_command_line(home):
    """Everybody on the machine can read those."""
    secret = auth_string(home).partition(":")[2]

    for service in (server(home, PROFILE), worker(home, PROFILE)):
        assert secret not in " ".join(service.argv)


def test_the_ui_reaches_its_own_server_and_nothing_else(home):
    """The browser holds it: every answer says where the page may go."""
    argv = server(home, PROFILE).argv
    name, _, policy = argv[argv.index("--header") + 1].partition(":")

    places = {word for part in policy.split(";") for word in part.split()[1:] if "://" in word or word == "*"}
    assert name == "content-security-policy"
    assert places == {"http://127.0.0.1:4999", "ws://127.0.0.1:4999"}
    assert {part.split()[0] for part in policy.split(";")} == {"default-src", "connect-src"}


def test_clients_believe_nobody_and_read_no_list_of_authorities(home):
    """The API is on loopback, without TLS; the certificate stays the same for as long as the home."""
    file = Path(prefect_environment(home, PROFILE)["PREFECT_API_SSL_CERT_FILE"])
    before = file.read_text()
    context = ssl.create_default_context(cafile=str(file))

    assert len(context.get_ca_certs()) == 0  # it signs for no other
    assert context.verify_mode is ssl.CERT_REQUIRED
    prefect_environment(home, PROFILE)
    assert file.read_text() == before
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("changed", ["prefect.yaml", "flows/chain.py", "pyproject.toml"])
def test_deployments_are_registered_again_when_they_changed(home, changed):
    """A flow's parameters are part of its deployment: the form in the UI is made from them."""
    (home.project / changed).write_text("before")
    before = deployments_fingerprint(home.project)
    assert deployments_fingerprint(home.project) == before

    (home.project / changed).write_text("after")

    assert deployments_fingerprint(home.project) != before


def test_foreign_settings_are_taken_away():
    """A profile of the user's would send the deployments to another server."""
    assert without(["PREFECT_PROFILE", "HOME", "AWS_PROFILE"]) == [
        "/usr/bin/env",
        "-u",
        "AWS_PROFILE",
        "-u",
        "PREFECT_PROFILE",
    ]


def test_a_server_with_other_batches_is_noticed():
    """With the server's defaults each subflow waits seconds for the locked database."""
    recorder = {"batch_size": 1, "read_batch_size": 200, "flush_interval": 1.0}
    persister = {"batch_size": 500, "read_batch_size": 200, "flush_interval": 1.0}
    services = {
        "task_run_recorder": recorder,
        "event_persister": persister,
        "triggers": {"read_batch_size": 200},
    }

    assert wrong_batches({"server": {"services": services}}) == ["task_run_recorder_batch_size=1"]
    assert len(wrong_batches({})) == 7


def test_job_template_has_no_variables(home):
    """So that Prefect refuses whoever sets one; what is fixed names none of them either."""
    template = job_template("python own.py", home.project)

    assert template["variables"] == {"type": "object", "properties": {}, "additionalProperties": False}
    assert template["job_configuration"]["command"] == "python own.py"
    assert template["job_configuration"]["working_dir"] == str(home.project)
    assert "{{" not in str(template["job_configuration"])
