"""The search for and the checks of the engine, with a fake engine at the socket."""

import http.server
import json
import os
import socketserver
import threading
from unittest.mock import Mock

import pytest
from docker.errors import APIError, NotFound

from cscm_laptop import engine as engine_module
from cscm_laptop.engine import (
    STORE,
    Facts,
    ask,
    check_engine,
    clear,
    ensure_engine,
    find_foreign_networks,
    judge,
    parse_engine_facts,
    parse_engine_version,
    read_engine_url,
    remove_dead_pid_files,
)
from cscm_laptop.home import Home
from supply_chain.errors import EngineUnavailable, EngineUnsuitable

GOOD = {"ServerVersion": "26.1.5+dfsg1", "DriverStatus": [["driver-type", STORE]]}
CLASSIC = {"ServerVersion": "20.10.24", "DriverStatus": [["Backing Filesystem", "extfs"]]}


@pytest.fixture
def engine(tmp_path):
    """Return a function that serves engine information on a socket and returns its address."""
    servers = []

    def serve(info):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps({"ApiVersion": "1.45"} if self.path.endswith("/version") else info).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self):
                return "socket"

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        server = Server(str(tmp_path / "engine.sock"), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"unix://{tmp_path}/engine.sock"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Return a function that puts a `docker` program on PATH, after earlier ones."""
    places: list[str] = []

    def put():
        place = tmp_path / f"bin{len(places)}"
        place.mkdir()
        (place / "docker").write_text("#!/bin/sh\n")
        (place / "docker").chmod(0o755)
        places.append(str(place))
        monkeypatch.setenv("PATH", os.pathsep.join([*places, "/usr/bin", "/bin"]))
        return place / "docker"

    return put


def test_suitable_engine_is_accepted_unchanged(engine, client):
    """The result has its version and client."""
    docker = client()
    url = engine(GOOD)

    found = check_engine(url)

    assert (found.url, found.version, found.client) == (url, "26.1.5+dfsg1", docker)


def test_unsuitable_engine_is_reported_and_left_unchanged(engine, client, tmp_path, monkeypatch):
    """It belongs to the user, so nothing is installed, configured or restarted."""
    client()
    monkeypatch.setenv("DOCKER_HOST", engine(CLASSIC))

    with pytest.raises(EngineUnsuitable) as caught:
        ensure_engine(Home(tmp_path, tmp_path / "home"), print)

    assert "20.10.24" in str(caught.value)
    assert "containerd-snapshotter" in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_missing_engine_error_names_what_to_install(tmp_path):
    """It also names the group of the user."""
    with pytest.raises(EngineUnavailable, match=r"no such socket(.|\n)*26\.1 or later(.|\n)*group docker"):
        ask(f"unix://{tmp_path}/nothing.sock")


def test_stopped_engine_error_says_to_start_it(tmp_path, monkeypatch):
    """This holds even if PATH lacks the directory of dockerd."""
    (tmp_path / "dockerd").write_text("#!/bin/sh\n")
    (tmp_path / "dockerd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("cscm_laptop.engine.DAEMON_PLACES", (str(tmp_path),))
    monkeypatch.setattr("cscm_laptop.engine.DEFAULT_URL", f"unix://{tmp_path}/nothing.sock")

    with pytest.raises(EngineUnavailable, match="installed: start it"):
        ask(f"unix://{tmp_path}/nothing.sock")


def test_unavailable_engine_of_docker_host_is_not_replaced(tmp_path, monkeypatch):
    """A user who set DOCKER_HOST wants that engine."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")

    with pytest.raises(EngineUnavailable, match="at unix://"):
        ensure_engine(Home(tmp_path, tmp_path / "home"), pytest.fail)


@pytest.mark.parametrize(
    ("version", "fits"),
    [("26.1.0", True), ("28.2.2", True), ("100.0", True), ("26.0.9", False), ("20.10.24+dfsg1", False), ("", False)],
)
def test_engine_versions_are_compared_as_numbers(version, fits):
    """100 is later than 26, and a missing version is unsuitable."""
    assert (parse_engine_version(version) >= (26, 1)) is fits


def test_classic_image_store_is_refused():
    """With it, the digest of a build differs from the digest in the registry."""
    with pytest.raises(EngineUnsuitable, match="image store is off"):
        judge(Facts(version="28.0.0", store=""), "unix:///x")


def test_engine_without_store_information_has_classic_store():
    """Old engines send null."""
    assert parse_engine_facts({"ServerVersion": "1.0", "DriverStatus": None}) == Facts(version="1.0", store="")


def test_engine_url_follows_docker_host():
    """Every Docker client does so."""
    assert read_engine_url({"DOCKER_HOST": "tcp://build:2375"}) == "tcp://build:2375"
    assert read_engine_url({}) == "unix:///var/run/docker.sock"


def test_pid_file_of_dead_engine_is_removed(tmp_path):
    """dockerd would take a zombie process for a running engine."""
    zombie, gone, invalid = tmp_path / "docker.pid", tmp_path / "gone.pid", tmp_path / "invalid.pid"
    killed = os.fork() or os._exit(0)
    os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    zombie.write_text(f"{killed}")
    gone.write_text("4194305\n")
    invalid.write_text("?")

    remove_dead_pid_files([zombie, gone, invalid, tmp_path / "missing.pid"])

    os.waitpid(killed, 0)
    assert list(tmp_path.iterdir()) == [invalid]


def test_pid_file_of_running_engine_is_not_removed(tmp_path):
    """A second engine would destroy its state."""
    running = tmp_path / "docker.pid"
    running.write_text(f"{os.getpid()}\n")

    remove_dead_pid_files([running])

    assert running.exists()


def test_reset_keeps_images_used_by_others(monkeypatch):
    """Several supply chains on one engine have the same registry address; the engine refuses to remove what is used."""
    conflict = Mock(status_code=409, reason="Conflict")
    answers = {"used": APIError("409", conflict, "container 1 uses it"), "gone": NotFound("404"), "own": None}
    client = Mock(**{f"{kind}.list.return_value": [] for kind in ("containers", "networks", "volumes")})
    client.images.remove.side_effect = lambda name: _raise(answers[name.partition("/")[2]])
    images = [
        {"RepoTags": ["r/used", "other/own"], "RepoDigests": ["r/own"]},
        {"RepoTags": None, "RepoDigests": ["r/gone"]},
    ]
    monkeypatch.setattr(engine_module, "ask", lambda _: None)
    monkeypatch.setattr(engine_module, "list_images", lambda _: images)
    monkeypatch.setattr("docker.DockerClient", lambda **_: client)
    messages: list[str] = []

    clear("cscm.owner=me", "r/", messages.append)

    assert messages == ["engine: leaving the image r/used: container 1 uses it", "engine: removed the image r/own"]
    assert [call.args[0] for call in client.images.remove.call_args_list] == ["r/used", "r/own", "r/gone"]


def _raise(error):
    if error:
        raise error


def test_networks_of_other_supply_chains_are_found(monkeypatch):
    """One without containers is replaced when it is needed."""
    owners = {"cscm-staging": "other", "cscm-old": "other", "cscm-own": "me"}
    networks = [Mock(attrs={"Labels": {"cscm.owner": owner}}) for owner in owners.values()]
    for network, name in zip(networks, owners, strict=True):
        network.name = name
    client = Mock(**{"networks.list.return_value": networks})
    client.containers.list.side_effect = lambda **given: [1] if given["filters"]["network"] != "cscm-old" else []
    monkeypatch.setattr(engine_module, "ask", lambda _: None)
    monkeypatch.setattr("docker.DockerClient", lambda **_: client)

    assert find_foreign_networks("me") == {"cscm-staging": "other"}
    assert client.close.called


def test_engine_that_fails_to_list_its_networks_is_unavailable(monkeypatch):
    client = Mock(**{"networks.list.side_effect": APIError("500 Server Error")})
    monkeypatch.setattr(engine_module, "ask", lambda _: None)
    monkeypatch.setattr("docker.DockerClient", lambda **_: client)

    with pytest.raises(EngineUnavailable, match="did not list its networks: 500"):
        find_foreign_networks("me")
