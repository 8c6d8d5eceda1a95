"""The Docker SDK's words and errors, translated."""

import contextlib
import inspect
import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import docker
import docker.errors
import pytest
import requests
from docker.errors import APIError, DockerException

from supply_chain.adapters.docker.engine import LISTINGS, DockerEngine, listed, translated
from supply_chain.adapters.docker.engine_reading import (
    container_from,
    image_from,
    listeners_of,
    listening,
    named_from,
    processes_from,
    without_init,
)
from supply_chain.errors import (
    AccessDenied,
    CheckNotMade,
    ContainerGone,
    DiskFull,
    EngineFailed,
    EngineUnavailable,
    ImageGone,
    ImageNotFound,
    PortBusy,
    ProgramNotStarted,
    RegistryUnavailable,
    SupplyChainError,
)
from supply_chain.model.container import Change, ContainerSpec, Listener, Profile, profile
from supply_chain.model.manifest import Runtime

DIGEST = "sha256:" + "ab" * 32

INSPECTED = {
    "Id": "c" * 64,
    "Name": "/staging-hello-1",
    "Image": DIGEST,
    "Created": "2026-11-24T17:00:00.123456789Z",
    "RestartCount": 2,
    "State": {
        "Status": "exited",
        "Pid": 0,
        "ExitCode": 137,
        "OOMKilled": True,
        "Error": "",
        "StartedAt": "2026-11-24T17:00:01.5Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "Config": {
        "User": "10001:10001",
        "Env": ["A=1=2", "EMPTY="],
        "Entrypoint": ["/app"],
        "Cmd": ["serve"],
        "Labels": {"cscm.managed": "true"},
    },
    "HostConfig": {
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw"},
        "CapAdd": ["CAP_CHOWN"],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"],
        "Memory": 134217728,
        "PidsLimit": 64,
        "Privileged": False,
        "NetworkMode": "host",
        "PidMode": "",
        "Devices": None,
        "RestartPolicy": {"Name": "unless-stopped"},
        "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]},
    },
    "Mounts": [{"Type": "bind", "Destination": "/host"}, {"Type": "tmpfs", "Destination": "/tmp"}],
    "NetworkSettings": {"Networks": {"cscm-staging": {"IPAddress": "172.18.0.2"}}},
}


class Listing:
    """An engine that gives up a list as often as it is told."""

    def __init__(self, gone: int) -> None:
        self.gone = gone
        self.asked: list[str | None] = []

    def images(self, name: str | None = None) -> list[dict[str, str]]:
        self.asked.append(name)
        if len(self.asked) <= self.gone:
            raise docker.errors.NotFound("failed to calculate size of image hello: content digest not found")
        return [{"Id": DIGEST}]


def api_error(message: str, status: int = 500) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("error", response=response, explanation=message)


@pytest.mark.parametrize(
    ("doing", "error", "expected"),
    [
        ("start x", api_error("driver failed: bind: address already in use"), PortBusy),
        ("start x", api_error("Bind for 127.0.0.1:80 failed: port is already allocated"), PortBusy),
        ("start x", api_error("runc: unable to start container process: exec", 400), ProgramNotStarted),
        (
            "start x",
            api_error('unable to start container process: exec: "no space left on device": not found', 400),
            ProgramNotStarted,
        ),
        ("load x", api_error("failed to copy: write /x/data: no space left on device: unknown", 500), DiskFull),
        ("start x", api_error("something else"), EngineFailed),
        ("inspect x", docker.errors.NotFound("no", explanation="No such container: x"), ContainerGone),
        ("look for x", docker.errors.ImageNotFound("no", explanation="No such image: x"), ImageNotFound),
        ("create x", docker.errors.ImageNotFound("no", explanation="No such image: x"), ImageGone),
        ("create x", api_error(f"parent snapshot sha256:{'a' * 64} does not exist: not found"), ImageGone),
        ("pull x", api_error("failed to resolve: 401 Unauthorized"), AccessDenied),
        ("pull x", api_error("manifest unknown"), ImageNotFound),
        ("pull x", api_error("dial tcp: connect: connection refused"), RegistryUnavailable),
        ("list", requests.exceptions.ReadTimeout("timed out"), EngineUnavailable),
        ("list", requests.exceptions.ConnectionError("refused"), EngineUnavailable),
        ("load x", docker.errors.ImageLoadError("not an archive"), EngineFailed),
        ("connect", DockerException("Error while fetching server API version"), EngineUnavailable),
    ],
)
def test_an_error_keeps_its_meaning(doing, error, expected):
    """The same trouble has the same name, whatever engine words it comes in."""
    assert type(translated(error, doing)) is expected


class Creating:
    """An SDK's client that shows what it was asked to create."""

    def __init__(self):
        self.containers, self.api, self.asked = self, SimpleNamespace(timeout=1), {}

    def create(self, image, **options):
        self.asked = options
        return SimpleNamespace(id="c" * 64)


@pytest.mark.parametrize(("largest", "ulimits"), [(None, []), (4096, [("fsize", 4096, 4096)])])
def test_a_file_grows_as_far_as_its_container_may(largest, ulimits):
    """By the kernel's own limit; where none is asked for, the engine's own holds."""
    client = Creating()

    DockerEngine(client).create(
        ContainerSpec(image=DIGEST, name="n", labels={}, profile=profile(Runtime()), largest_file=largest)
    )

    assert [(u.name, u.soft, u.hard) for u in client.asked.get("ulimits", [])] == ulimits


def test_no_error_of_the_sdk_is_left_untranslated():
    """Each class of the SDK's errors becomes one of the chain's, with what to do next."""
    classes = [c for _, c in inspect.getmembers(docker.errors, inspect.isclass) if issubclass(c, DockerException)]
    assert len(classes) > 10
    for each in classes:
        error = each.__new__(each)
        error.response, error.explanation = None, "trouble"
        told = translated(error, "work")
        assert isinstance(told, SupplyChainError)
        assert "\n" in str(told)


def test_reads_a_container():
    """Everything a container can be compared by is read, without the engine's spelling."""
    found = container_from(INSPECTED)

    assert found.name == "staging-hello-1"
    assert found.environment == {"A": "1=2", "EMPTY": ""}
    assert found.command == ("/app", "serve")
    assert found.out_of_memory
    assert found.restarts == 2
    assert found.started_at.microsecond == 500000
    assert found.finished_at is None
    assert found.published[0].port == 18080
    assert found.profile.capabilities == ("CHOWN",)
    assert found.profile.no_new_privileges
    assert found.profile.security_options == ("seccomp=unconfined",)
    assert found.profile.host_namespaces == ("network",)
    assert found.profile.mounts == ("/host",)
    assert found.profile.writable == ("/tmp",)


def test_a_container_without_limits_is_read_as_such():
    """What the engine leaves out is the weakest, never the hardened."""
    bare = {**INSPECTED, "HostConfig": {}, "Config": {}, "Mounts": None, "NetworkSettings": {}}

    profile = container_from(bare).profile

    assert (profile.user, profile.memory, profile.pids) == ("0:0", 0, 0)
    assert (profile.read_only, profile.no_new_privileges, profile.dropped) == (False, False, ())


def test_no_new_privileges_can_be_switched_off():
    """The option's name alone does not mean that it is on."""
    host = {**INSPECTED["HostConfig"], "SecurityOpt": ["no-new-privileges:false"]}

    assert not container_from({**INSPECTED, "HostConfig": host}).profile.no_new_privileges


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        (["/sbin", "/sbin/docker-init"], []),
        (["/usr", "/usr/sbin", "/usr/sbin/docker-init"], []),
        (["/sbin", "/sbin/docker-init", "/sbin/sh"], ["/sbin", "/sbin/sh"]),
        (["/usr", "/usr/lib", "/usr/sbin", "/usr/sbin/docker-init"], ["/usr", "/usr/lib"]),
        (["/sbin", "/sbin/init"], ["/sbin", "/sbin/init"]),
    ],
)
def test_the_mount_point_of_the_engines_init_is_no_change(paths, left):
    """And nothing hides behind it."""
    changes = [Change(kind="added", path=path) for path in paths]

    assert [each.path for each in without_init(changes)] == left


def test_reads_an_image_without_a_configuration():
    """An image may say nothing at all."""
    assert image_from({"Id": DIGEST, "Config": None}).command == ()


def test_reads_the_names_of_an_image_that_was_pulled_by_digest():
    """Engines tell such a name as a tag or as no tag at all; one without a name has none."""
    by_digest = [f"registry.test/app@{DIGEST}"]

    for tags in (by_digest, [], None):
        assert named_from({"Id": DIGEST, "RepoTags": tags, "RepoDigests": by_digest}) == (DIGEST, tuple(by_digest))
    assert named_from({"Id": DIGEST, "RepoTags": [], "RepoDigests": []}) == (DIGEST, ())


def test_reads_processes():
    """Rows of ps."""
    (process,) = processes_from({"Titles": [], "Processes": [["7", "1", "10001", "/app serve --port 8080"]]})

    assert (process.pid, process.uid, process.command) == (7, 10001, "/app serve --port 8080")


TCP = [
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001 0 1 1 0 100 0 0 10 0",
    "   1: 0B00007F:A3F1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0 0 2 1 0 100 0 0 10 0",
    "   2: 020012AC:1F91 010012AC:C000 01 00000000:00000000 00:00000000 00000000 10001 0 3 1 0 100 0 0 10 0",
    "   0: 00000000000000000000000000000000:1F92 00000000000000000000000000000000:0000 0A 0:0 0:0 0 10001 0 4",
    "   1: 00000000000000000000000001000000:1F93 00000000000000000000000000000000:0000 0A 0:0 0:0 0 10001 0 5",
]


def test_reads_listening_sockets():
    """Listening ones only, in both families, without the engine's own name server."""
    assert listening(TCP) == (
        Listener(address="127.0.0.1", port=8080),
        Listener(address="::", port=8082),
        Listener(address="::1", port=8083),
    )


def test_sockets_of_another_process_are_not_taken_for_the_containers(tmp_path):
    """On another machine than the engine's, the same number is another process: then nothing is known."""
    net = tmp_path / "4" / "net"
    net.mkdir(parents=True)
    (net / "tcp").write_text("header\n" + TCP[0])
    (net / "fib_trie").write_text("  |-- 172.18.0.22\n")
    container = container_from({**INSPECTED, "State": {**INSPECTED["State"], "Pid": 4, "Status": "running"}})

    with pytest.raises(CheckNotMade):
        listeners_of(container, tmp_path)

    (net / "fib_trie").write_text("  |-- 172.18.0.2\n")
    assert listeners_of(container, tmp_path)


def test_sockets_that_cannot_be_read_are_no_pass(tmp_path):
    """A container without a process here has not been looked at."""
    with pytest.raises(CheckNotMade):
        listeners_of(container_from(INSPECTED), tmp_path)


@pytest.mark.parametrize("gone", [0, 1, LISTINGS - 1])
def test_a_list_that_an_image_went_from_is_asked_for_again(gone: int) -> None:
    """Removed by another run: the engine gives up the whole list, of which the rest is as it was."""
    engine = Listing(gone)
    assert listed(engine, "hello") == [{"Id": DIGEST}]
    assert engine.asked == ["hello"] * (gone + 1)


def test_a_list_that_is_never_made_is_an_error() -> None:
    engine = Listing(LISTINGS)
    with pytest.raises(docker.errors.NotFound):
        listed(engine)
    assert engine.asked == [None] * LISTINGS


def test_health_check_of_an_image_is_not_run():
    """Its execs would hide those of others, and push them out of what the engine keeps."""
    client = Creating()

    DockerEngine(client).create(
        ContainerSpec(image=DIGEST, name="hello", labels={}, profile=Profile(user="1:1", memory=1, pids=1))
    )

    assert client.asked["healthcheck"] == {"test": ["NONE"]}


CHANGE = b'{"Path": "/data/a", "Kind": 1}'


@pytest.fixture
def answering():
    """Makes an engine that lists a container's changes so, with how much of the list it could send."""
    servers = []

    def make(parts, status=200):
        sent = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path.endswith("/json"):
                    return self.answer(200, [json.dumps(INSPECTED).encode()])
                return self.answer(status, map(counted, parts)) if self.path.endswith("/changes") else None

            def answer(self, status, parts):
                self.send_response(status)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    for part in parts:
                        self.wfile.write(part)

            def log_message(self, *_):
                pass

        def counted(part):
            sent.append(part)
            return part

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        client = docker.DockerClient(f"tcp://127.0.0.1:{server.server_port}", version="1.45", timeout=20)
        return DockerEngine(client), sent

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("listed", "paths"), [(b"null", []), (b"[%s,%s]" % (CHANGE, CHANGE), ["/data/a", "/data/a"])], ids=["none", "two"]
)
def test_changes_of_a_container_are_read(answering, listed, paths):
    """As the engine lists them."""
    assert [each.path for each in answering([listed])[0].changes("c")] == paths


def test_a_list_of_changes_is_read_no_further_than_its_bound(answering):
    """A container may write millions of files; a list that was cut would hide what comes after."""
    parts = itertools.chain([b"[" + CHANGE], itertools.repeat(b"," + CHANGE * 1000, 3000), [b"]"])
    engine, sent = answering(parts)

    with pytest.raises(CheckNotMade, match="more paths than can be looked at"):
        engine.changes("c")
    assert len(sent) < 3000


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (404, b'{"message": "No such container: c"}', ContainerGone),
        (500, b'{"message": "broken"}', EngineFailed),
        (200, b"[", EngineFailed),
    ],
    ids=["gone", "failed", "cut off"],
)
def test_changes_that_are_not_listed_are_an_error(answering, status, said, error):
    """Of the engine's, or of a container that somebody removed."""
    with pytest.raises(error):
        answering([said], status)[0].changes("c")
