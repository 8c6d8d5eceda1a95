"""Tests of how answers and errors of the Docker SDK are translated."""

import contextlib
import inspect
import itertools
import json
import struct
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit

import docker
import docker.errors
import pytest
import requests
from docker.errors import APIError, DockerException
from urllib3.exceptions import ProtocolError

from supply_chain.adapters.docker.engine import LISTINGS, MOST_PROCESSES, DockerEngine, list_images
from supply_chain.adapters.docker.engine_errors import translate_error, translate_errors
from supply_chain.adapters.docker.engine_reading import (
    LONGEST_COMMAND,
    drop_init,
    parse_container,
    parse_image,
    parse_image_names,
    parse_listeners,
    parse_processes,
    read_last_lines,
    read_listeners,
)
from supply_chain.adapters.files import free_space
from supply_chain.errors import (
    AccessDenied,
    CheckIncomplete,
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
from supply_chain.model.container import LINES, LOG, OWNER, Change, ContainerSpec, Listener, Profile, make_profile
from supply_chain.model.declaration import Runtime
from tests.support.present import present
from tests.unit.adapters.docker.inspected import DIGEST, INSPECTED


class Listing:
    """Fake of an engine whose list fails as often as the test says."""

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
        ("load x", api_error(f"parent snapshot sha256:{'a' * 64} does not exist: not found"), ImageGone),
        ("pull x", api_error(f"parent snapshot sha256:{'a' * 64} does not exist: not found"), ImageGone),
        ("pull x", api_error("failed to resolve: 401 Unauthorized"), AccessDenied),
        ("pull x", api_error("manifest unknown"), ImageNotFound),
        ("pull x", api_error("dial tcp: connect: connection refused"), RegistryUnavailable),
        ("list", requests.exceptions.ReadTimeout("timed out"), EngineUnavailable),
        ("list", requests.exceptions.ConnectionError("refused"), EngineUnavailable),
        ("load x", docker.errors.ImageLoadError("not an archive"), EngineFailed),
        ("connect", DockerException("Error while fetching server API version"), EngineUnavailable),
    ],
)
def test_translated_maps_engine_error_to_own_exception(doing, error, expected):
    """The same problem has the same exception, however the engine words it."""
    assert type(translate_error(error, doing)) is expected


def engine_of(client: Any) -> DockerEngine:
    """Return the engine behind a stand-in of the SDK's client."""
    return DockerEngine(client)


def test_unused_network_of_another_owner_is_removed_by_its_id() -> None:
    """By its name, one that somebody else created meanwhile would be removed."""
    other = {"Name": "staging", "Id": "1234", "Labels": {OWNER: "another"}}
    api = SimpleNamespace(
        timeout=1, networks=lambda names: [other], containers=lambda **_: [], remove_network=Mock(),
        create_network=Mock(),
    )  # fmt: skip

    DockerEngine(cast(Any, SimpleNamespace(api=api)), "mine").create_network("staging", {}, internal=True)

    api.remove_network.assert_called_once_with("1234")
    api.create_network.assert_called_once()


@pytest.mark.parametrize(("says", "raises"), [("removal of container x is already in progress", False), ("no", True)])
def test_container_that_is_being_removed_is_removed(says: str, raises: bool) -> None:
    """A killed run may have begun to remove it."""
    api = SimpleNamespace(timeout=1, remove_container=Mock(side_effect=api_error(says, 409)))

    with pytest.raises(EngineFailed) if raises else nullcontext():
        engine_of(SimpleNamespace(api=api)).remove("x")


class Creating:
    """Fake of an SDK client that records the options of a new container."""

    def __init__(self):
        self.containers, self.api, self.asked = self, SimpleNamespace(timeout=1), {}

    def create(self, image, **options):
        self.asked = options
        return SimpleNamespace(id="c" * 64)


@pytest.mark.parametrize(("largest", "ulimits"), [(None, []), (4096, [("fsize", 4096, 4096)])])
def test_create_limits_file_size_if_requested(largest, ulimits):
    """The kernel enforces the limit; without a request the default of the engine applies."""
    client = Creating()

    engine_of(client).create(
        ContainerSpec(image=DIGEST, name="n", labels={}, profile=make_profile(Runtime()), largest_file=largest)
    )

    assert [(u.name, u.soft, u.hard) for u in client.asked.get("ulimits", [])] == ulimits


@pytest.mark.parametrize("error", [ProtocolError("Connection broken"), struct.error("Connection broken")], ids=repr)
def test_stream_that_breaks_off_is_an_unavailable_engine(error):
    """Logs are parts of a stream, whose headers the SDK unpacks."""
    broken = pytest.raises(EngineUnavailable, match="could not read the logs of x: Connection broken")
    with broken, translate_errors("read the logs of x"):
        raise error


def test_translated_handles_every_error_class_of_the_sdk():
    """Each class becomes an exception of this project, with a remedy on the second line."""
    classes = [c for _, c in inspect.getmembers(docker.errors, inspect.isclass) if issubclass(c, DockerException)]
    assert len(classes) > 10
    for each in classes:
        error: Any = each.__new__(each)
        error.response, error.explanation = None, "trouble"
        translated = translate_error(error, "work")
        assert isinstance(translated, SupplyChainError)
        assert "\n" in str(translated)


def test_container_from_reads_inspected_container():
    """All properties that containers are compared by are read and normalised."""
    found = parse_container(INSPECTED)

    assert found.name == "staging-hello-1"
    assert found.environment == {"A": "1=2", "EMPTY": ""}
    assert found.command == ("/app", "serve")
    assert found.out_of_memory
    assert found.restarts == 2
    assert present(found.started_at).microsecond == 500000
    assert found.finished_at is None
    assert found.published[0].port == 18080
    assert found.profile.capabilities == ("CHOWN",)
    assert found.profile.no_new_privileges
    assert found.profile.security_options == ("seccomp=unconfined",)
    assert found.profile.host_namespaces == ("network",)
    assert found.profile.mounts == ("/host",)
    assert found.profile.writable == ("/tmp",)


def test_container_from_reads_missing_limits_as_weakest():
    """A value that the engine omits must never count as hardened."""
    bare = {**INSPECTED, "HostConfig": {}, "Config": {}, "Mounts": None, "NetworkSettings": {}}

    profile = parse_container(bare).profile

    assert (profile.user, profile.memory, profile.pids) == ("0:0", 0, 0)
    assert (profile.read_only, profile.no_new_privileges, profile.dropped) == (False, False, ())


def test_container_from_reads_disabled_no_new_privileges():
    """The name of the option alone does not mean that it is on."""
    host = {**INSPECTED["HostConfig"], "SecurityOpt": ["no-new-privileges:false"]}

    assert not parse_container({**INSPECTED, "HostConfig": host}).profile.no_new_privileges


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
def test_without_init_removes_only_mount_point_of_engine_init(paths, left):
    """No other path may hide behind the init process that the engine mounts."""
    changes = [Change(kind="added", path=path) for path in paths]

    assert [each.path for each in drop_init(changes)] == left


def test_image_from_reads_image_without_configuration():
    """An image may have no configuration at all."""
    assert parse_image({"Id": DIGEST, "Config": None}).command == ()


def test_named_from_reads_names_of_image_pulled_by_digest():
    """Engines report such a name as a tag or as a digest only; an image without a name has none."""
    by_digest = [f"registry.test/app@{DIGEST}"]

    for tags in (by_digest, [], None):
        assert parse_image_names({"Id": DIGEST, "RepoTags": tags, "RepoDigests": by_digest}) == (
            DIGEST,
            tuple(by_digest),
        )
    assert parse_image_names({"Id": DIGEST, "RepoTags": [], "RepoDigests": []}) == (DIGEST, ())


def test_processes_from_reads_rows_of_ps():
    """The rows have the columns of `ps`."""
    (process,) = parse_processes({"Titles": [], "Processes": [["7", "1", "10001", "/app serve --port 8080"]]})

    assert (process.pid, process.uid, process.command) == (7, 10001, "/app serve --port 8080")


def test_commands_of_processes_are_cut():
    """A program may have megabytes of arguments, which would be searched for secrets."""
    rows = [["7", "1", "0", "x" * length] for length in (LONGEST_COMMAND, LONGEST_COMMAND + 1)]

    assert [len(each.command) for each in parse_processes({"Processes": rows})] == [LONGEST_COMMAND] * 2


TCP = [
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001 0 1 1 0 100 0 0 10 0",
    "   1: 0B00007F:A3F1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0 0 2 1 0 100 0 0 10 0",
    "   2: 020012AC:1F91 010012AC:C000 01 00000000:00000000 00:00000000 00000000 10001 0 3 1 0 100 0 0 10 0",
    "   0: 00000000000000000000000000000000:1F92 00000000000000000000000000000000:0000 0A 0:0 0:0 0 10001 0 4",
    "   1: 00000000000000000000000001000000:1F93 00000000000000000000000000000000:0000 0A 0:0 0:0 0 10001 0 5",
]


def test_listening_returns_listening_sockets_of_both_families():
    """The name server of the engine does not count."""
    assert parse_listeners(TCP) == (
        Listener(address="127.0.0.1", port=8080),
        Listener(address="::", port=8082),
        Listener(address="::1", port=8083),
    )


UDP = [
    "  12: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000 10001 0 6 2 0 0",
    "  13: 0B00007F:A3F1 00000000:0000 07 00000000:00000000 00:00000000 00000000     0 0 7 2 0 0",
    "  14: 020012AC:8001 010012AC:0035 01 00000000:00000000 00:00000000 00000000 10001 0 8 2 0 0",
]
UDP6 = "  15: 00000000000000000000000000000000:14EA 00000000000000000000000000000000:0000 07 0:0 0:0 0 10001 0 9 2 0 0"


def test_listeners_include_udp_sockets_without_peer(tmp_path):
    """A connected UDP socket receives from its peer only; the name server of the engine does not count."""
    net = tmp_path / "4" / "net"
    net.mkdir(parents=True)
    files = {"tcp": TCP[:3], "tcp6": TCP[3:], "udp": UDP, "udp6": [UDP6]}
    for name, rows in files.items():
        (net / name).write_text("\n".join(["header", *rows]))
    (net / "fib_trie").write_text("  |-- 172.18.0.2\n")
    container = parse_container({**INSPECTED, "State": {**INSPECTED["State"], "Pid": 4, "Status": "running"}})
    own = (Listener(address="0.0.0.0", port=5353, protocol="udp"),)

    found = read_listeners(container, tmp_path)
    for name in ("tcp6", "udp6"):
        (net / name).unlink()

    assert found == (*parse_listeners(TCP), *own, Listener(address="::", port=5354, protocol="udp"))
    assert read_listeners(container, tmp_path) == (*parse_listeners(TCP[:3]), *own)
    (net / "udp").unlink()
    with pytest.raises(CheckIncomplete, match="udp"):
        read_listeners(container, tmp_path)


EPS = [
    "00000000b1fb5bb2 00000000a3dbbe19 2   10  29   9997  10001 12345 0.0.0.0 ",
    "00000000b1fb5bb3 00000000a3dbbe1a 0   10  30   9996  10001 12346 127.0.0.1 172.18.0.2 ",
    "00000000b1fb5bb4 00000000a3dbbe1b 0   10  31   9995  10001 12347 0000:0000:0000:0000:0000:0000:0000:0000 ",
    "00000000b1fb5bb5 00000000a3dbbe1c 2   7   32   9994  10001 12348 0.0.0.0 ",
]


def test_listeners_include_udplite_and_sctp(tmp_path):
    """Everybody can send to such a socket too; a kernel without the protocol has no table of it."""
    net = tmp_path / "4" / "net"
    (net / "sctp").mkdir(parents=True)
    files = {"tcp": [], "udp": [], "udplite": UDP, "udplite6": [UDP6], "sctp/eps": EPS}
    for name, rows in files.items():
        (net / name).write_text("\n".join(["header", *rows]))
    (net / "fib_trie").write_text("  |-- 172.18.0.2\n")
    container = parse_container({**INSPECTED, "State": {**INSPECTED["State"], "Pid": 4, "Status": "running"}})

    found = read_listeners(container, tmp_path)
    for name in ("udplite", "udplite6", "sctp/eps"):
        (net / name).unlink()

    assert [(each.protocol, each.address, each.port) for each in found] == [
        ("udplite", "0.0.0.0", 5353), ("udplite", "::", 5354), ("sctp", "::", 9995), ("sctp", "127.0.0.1", 9996),
        ("sctp", "172.18.0.2", 9996), ("sctp", "0.0.0.0", 9997),
    ]  # fmt: skip
    assert read_listeners(container, tmp_path) == ()


def test_listeners_of_refuses_process_of_another_host(tmp_path):
    """If the engine runs on another machine, the same number is another process here."""
    net = tmp_path / "4" / "net"
    net.mkdir(parents=True)
    (net / "tcp").write_text("header\n" + TCP[0])
    (net / "udp").write_text("header\n")
    (net / "fib_trie").write_text("  |-- 172.18.0.22\n")
    container = parse_container({**INSPECTED, "State": {**INSPECTED["State"], "Pid": 4, "Status": "running"}})

    with pytest.raises(CheckIncomplete):
        read_listeners(container, tmp_path)

    (net / "fib_trie").write_text("  |-- 172.18.0.2\n")
    assert read_listeners(container, tmp_path)


def test_listeners_of_refuses_container_without_process(tmp_path):
    """A container without a local process has not been checked, so the check must not pass."""
    with pytest.raises(CheckIncomplete):
        read_listeners(parse_container(INSPECTED), tmp_path)


@pytest.mark.parametrize(
    ("chunks", "text", "cut"),
    [
        ([], "", False),
        ([b"a\nb", b"c\n"], "a\nbc\n", False),
        ([b"a\n" * (LINES - 1)], "a\n" * (LINES - 1), False),
        ([b"a\n" * (LINES - 1), b"b"], "a\n" * (LINES - 1) + "b", True),
        ([b"." * LOG, b"\nb\n"], "b\n", True),
        ([b"." * (LOG + 1)], "." * LOG, True),
    ],
    ids=["nothing", "two lines", "fewer lines", "as many lines as are read", "long line before", "long line"],
)
def test_last_lines_says_whether_earlier_ones_are_missing(chunks, text, cut):
    """Nothing is known about output that was not read."""
    assert read_last_lines(chunks) == (text, cut)


@pytest.mark.parametrize("gone", [0, 1, LISTINGS - 1])
def test_listed_retries_if_an_image_disappears(gone: int) -> None:
    """Another run may remove an image, and the engine then fails the whole list."""
    engine: Any = Listing(gone)
    assert list_images(engine, "hello") == [{"Id": DIGEST}]
    assert engine.asked == ["hello"] * (gone + 1)


def test_listed_raises_after_the_last_attempt() -> None:
    """The number of attempts is bounded."""
    engine: Any = Listing(LISTINGS)
    with pytest.raises(docker.errors.NotFound):
        list_images(engine)
    assert engine.asked == [None] * LISTINGS


def test_create_disables_health_check_of_image():
    """Its execs would hide those of others and push them out of the events that the engine keeps."""
    client = Creating()

    engine_of(client).create(
        ContainerSpec(image=DIGEST, name="hello", labels={}, profile=Profile(user="1:1", memory=1, pids=1))
    )

    assert client.asked["healthcheck"] == {"test": ["NONE"]}


CHANGE = b'{"Path": "/data/a", "Kind": 1}'


@pytest.fixture
def answering():
    """Return a factory of engines that answer with the given list, and of the parts of it that were sent.

    `asked` receives the paths of the requests.
    """
    servers = []

    def make(parts, status=200, asked=None):
        sent, asked = [], [] if asked is None else asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path.endswith("/json"):
                    return self.answer(200, [json.dumps(INSPECTED).encode()])
                asked.append(self.path)
                return self.answer(status, map(counted, parts))

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
def test_changes_returns_paths_in_order_of_the_engine(answering, listed, paths):
    """An engine answers `null` if there are none."""
    assert [each.path for each in answering([listed])[0].changes("c")] == paths


def test_changes_stops_reading_at_its_bound(answering):
    """A container may write millions of files, and a truncated list would hide the rest."""
    parts = itertools.chain([b"[" + CHANGE], itertools.repeat(b"," + CHANGE * 1000, 3000), [b"]"])
    engine, sent = answering(parts)

    with pytest.raises(CheckIncomplete, match="more paths than can be looked at"):
        engine.changes("c")
    assert len(sent) < 3000


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (404, b'{"message": "No such container: c"}', ContainerGone),
        (500, b'{"message": "broken"}', EngineFailed),
        (200, b"[", EngineFailed),
    ],
    ids=["gone", "failed", "cut off"],
)
def test_changes_raises_if_engine_does_not_list_them(answering, status, answer, error):
    """The engine may fail, or somebody may have removed the container."""
    with pytest.raises(error):
        answering([answer], status)[0].changes("c")


PROCESS = b'["7", "1", "10001", "/app"]'


def test_processes_are_requested_with_commands_of_limited_length(answering):
    """The engine keeps the whole output of ps in its memory."""
    asked: list[Any] = []
    engine, _ = answering([b'{"Titles": [], "Processes": [%s,%s]}' % (PROCESS, PROCESS)], asked=asked)

    assert [(each.pid, each.parent, each.uid, each.command) for each in engine.processes("c")] == [
        (7, 1, 10001, "/app")
    ] * 2
    (path,) = asked
    address = urlsplit(path)
    assert address.path.endswith("/containers/c/top")
    assert parse_qs(address.query) == {"ps_args": [f"-eo pid,ppid,uid,args --cols {LONGEST_COMMAND}"]}


def test_processes_stops_reading_at_its_bound(answering):
    """A list without its end would hide processes."""
    row = b'["7", "1", "0", "%s"],' % (b"x" * 8000)
    parts = [b'{"Processes": [', *itertools.repeat(row, 2 * MOST_PROCESSES // len(row)), PROCESS, b"]}"]
    engine, sent = answering(parts)

    with pytest.raises(CheckIncomplete, match="more processes than can be looked at"):
        engine.processes("c")
    assert len(sent) < len(parts)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (404, b'{"message": "No such container: c"}', CheckIncomplete),
        (500, b'{"message": "ps: not found"}', CheckIncomplete),
        (200, b"[", EngineFailed),
    ],
    ids=["gone", "without ps", "cut off"],
)
def test_processes_raises_if_engine_does_not_list_them(answering, status, answer, error):
    """The engine's host may lack ps, or the list may be incomplete."""
    with pytest.raises(error):
        answering([answer], status)[0].processes("c")


def test_save_leaves_the_reserve_of_free_space(tmp_path, monkeypatch):
    """It ends at once, and not when the disk is full for everybody."""
    chunks = iter([b"a" * 1000] * 3)
    found = SimpleNamespace(save=lambda: chunks)
    client = SimpleNamespace(api=SimpleNamespace(timeout=1), images=SimpleNamespace(get=lambda _: found))
    assert not engine_of(client).save("image", tmp_path / "image.tar", 999)
    monkeypatch.setattr(free_space, "RESERVE", 2**62)

    with pytest.raises(DiskFull, match=rf"The image image is not saved: Only \d+ MiB are free in {tmp_path}"):
        engine_of(client).save("image", tmp_path / "image.tar", 10**6)

    assert (tmp_path / "image.tar").stat().st_size == 0 and len(list(chunks)) == 1
