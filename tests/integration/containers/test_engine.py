"""The Docker engine beyond the contract of the port: profiles, pulls and errors."""

import contextlib
import hashlib
import http.server
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import docker
import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.docker.engine_reading import LONGEST_COMMAND, PS
from supply_chain.errors import (
    AccessDenied,
    EngineUnavailable,
    ImageNotFound,
    PortBusy,
    ProgramNotStarted,
    RegistryUnavailable,
    SupplyChainError,
)
from supply_chain.model.container import ENVIRONMENT, ContainerSpec, Login, Profile, Published
from tests.integration.containers.images import Image
from tests.support.layered import layered
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

HARDENED = Profile(user="10001:10001", memory=64 * 1024**2, pids=16, cpu=0.5, writable=("/tmp", "/var/cache/app"))
ABSENT = "sha256:" + "0" * 64


Created = Callable[..., str]


@pytest.fixture
def created(engine: DockerEngine, image: Image, environment_name: str) -> Created:
    """A function that creates a container with faults; it is removed after the test."""

    def make(*faults: str, **spec: Any) -> str:
        return engine.create(
            ContainerSpec(
                **{
                    "image": image(*faults),
                    "name": f"{environment_name}-{uuid4().hex[:6]}",
                    "labels": {ENVIRONMENT: environment_name},
                    "profile": HARDENED,
                    **spec,
                }
            )
        )

    return make


def test_kernel_enforces_the_profile_of_a_container(engine: DockerEngine, created: Created) -> None:
    """Capabilities, privileges, seccomp and uid are read from /proc."""
    container = created("hang")
    engine.start(container)

    lines = Path(f"/proc/{engine.inspect(container).pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    assert int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert set(status["Uid"].split()) == {"10001"}


def test_engine_cuts_commands_of_processes(engine: DockerEngine, created: Created) -> None:
    """It keeps the output of ps in its memory, and a program may have megabytes of arguments."""
    container = created("hang", command=("/subject", "hang", *["x" * 100_000] * 5))
    engine.start(container)

    with contextlib.closing(docker.from_env()) as client:
        ((*_, listed),) = client.api.top(container, ps_args=PS)["Processes"]

    (process,) = engine.processes(container)
    assert listed == process.command and process.command.startswith("/subject hang xxx")
    assert LONGEST_COMMAND - 100 < len(listed) <= LONGEST_COMMAND


def test_engine_reports_sockets_processes_and_logs(engine: DockerEngine, created: Created) -> None:
    """Standard output and standard error are separate."""
    engine.create_network(name := f"t{uuid4().hex[:8]}", {}, internal=True)
    try:
        container = created("quiet", network=name)
        engine.start(container)
        eventually(lambda: engine.logs(container).stderr and engine.listeners(container))
        assert [each.port for each in engine.listeners(container)] == [8080]
        assert [each.uid for each in engine.processes(container)] == [10001]
        assert engine.logs(container).stderr == "listening\n"
        assert engine.logs(container).stdout == ""
        assert [each.id for each in engine.list_network_containers(name)] == [container]
        engine.remove(container)
    finally:
        engine.remove_network(name)


def test_start_on_a_taken_port_raises_port_busy(engine: DockerEngine, created: Created) -> None:
    """Another program on the host listens on the published port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        published = Published(address="127.0.0.1", port=other.getsockname()[1], container_port=8080)
        container = created(published=(published,), network="bridge")

        with pytest.raises(PortBusy):
            engine.start(container)


def test_missing_program_raises_program_not_started(engine: DockerEngine, created: Created) -> None:
    """A wrong entrypoint is an error of the image."""
    with pytest.raises(ProgramNotStarted):
        engine.start(created(command=("/nowhere",)))


def test_missing_socket_raises_retryable_engine_unavailable(tmp_path: Path) -> None:
    """The engine may start later."""
    with pytest.raises(EngineUnavailable) as error:
        DockerEngine.connect(f"unix://{tmp_path}/none.sock").versions()

    assert error.value.retryable


class Registry(http.server.BaseHTTPRequestHandler):
    """A minimal registry that serves pulls and asks for a password."""

    blobs: ClassVar[dict[str, bytes]] = {}
    types: ClassVar[dict[str, str]] = {}
    default_request_version = "HTTP/1.0"  # the engine recognises from this that the server has no TLS

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        digest = self.path.rpartition("/")[2]
        if "Basic dXNlcjpwYXNzd29yZA==" not in self.headers.get("Authorization", ""):
            self._answer(401, b"", "text/plain")
        elif self.path == "/v2/":
            self._answer(200, b"{}", "application/json")
        elif digest in self.blobs:
            self._answer(200, self.blobs[digest], self.types.get(digest, "application/octet-stream"), digest)
        else:
            self._answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}', "application/json")

    def _answer(self, status: int, content: bytes, kind: str, digest: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("WWW-Authenticate", 'Basic realm="test"')
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def registry(rootfs: bytes, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The registry's host and the digest of the image in it."""
    path = tmp_path / "image.tar"
    digest = layered(path, [rootfs], {"Entrypoint": ["/subject"], "Labels": {"test": uuid4().hex}})
    with tarfile.open(path) as tar:
        files = [tar.extractfile(member) for member in tar.getmembers() if member.name.startswith("blobs/")]
        contents = [file.read() for file in files if file]
    Registry.blobs = {"sha256:" + hashlib.sha256(content).hexdigest(): content for content in contents}
    Registry.types = {digest: "application/vnd.oci.image.manifest.v1+json"}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}", digest
    server.shutdown()
    thread.join()
    server.server_close()


def test_pull_by_digest_returns_the_same_digest(engine: DockerEngine, registry: tuple[str, str]) -> None:
    """The image is known in the engine by the requested digest."""
    host, digest = registry
    try:
        assert engine.pull(f"{host}/curated/subject", digest, Login("user", "password")).digest == digest
        assert engine.image(digest).digest == digest
    finally:
        engine._client.images.remove(digest, force=True)


def test_forget_removes_a_pulled_image(engine: DockerEngine, registry: tuple[str, str]) -> None:
    """The content goes with its last name, and forgetting a missing name succeeds."""
    host, digest = registry
    repository = f"{host}/curated/subject"
    engine.pull(repository, digest, Login("user", "password"))

    assert engine.names(repository) == {digest: (f"{repository}@{digest}",)}
    engine.forget(f"{repository}@{digest}")
    engine.forget(f"{repository}@{digest}")

    assert engine.names(repository) == {}
    with pytest.raises(ImageNotFound):
        engine.image(digest)


@pytest.mark.parametrize(
    ("wanted", "password", "error"),
    [(None, "wrong", AccessDenied), (ABSENT, "password", ImageNotFound)],
)
def test_pull_maps_registry_errors_to_own_errors(
    engine: DockerEngine, registry: tuple[str, str], wanted: str | None, password: str, error: type[SupplyChainError]
) -> None:
    """A wrong password is access denied; an unknown digest is not found."""
    host, digest = registry

    with pytest.raises(error):
        engine.pull(f"{host}/curated/subject", wanted or digest, Login("user", password))


def test_pull_from_stopped_registry_raises_retryable_error(engine: DockerEngine, port: int) -> None:
    """The registry may start later."""
    with pytest.raises(RegistryUnavailable) as error:
        engine.pull(f"127.0.0.1:{port}/curated/subject", ABSENT)

    assert error.value.retryable


def test_login_representation_hides_the_password() -> None:
    """Logs and error messages may contain it."""
    assert "secret" not in repr(Login("user", "secret"))
