"""The Docker engine behind the port, beyond the contract: what it runs, pulls, and in whose words it fails."""

import hashlib
import http.server
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
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

from .conftest import Image, archive

pytestmark = pytest.mark.real

HARDENED = Profile(user="10001:10001", memory=64 * 1024**2, pids=16, cpu=0.5, writable=("/tmp", "/var/cache/app"))
ABSENT = "sha256:" + "0" * 64


Created = Callable[..., str]


@pytest.fixture
def created(engine: DockerEngine, image: Image, environment_name: str) -> Created:
    """A function that creates a container from faults; it is removed afterwards."""

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


def test_the_kernel_enforces_the_profile(engine: DockerEngine, created: Created) -> None:
    """No capability, no new privileges, seccomp and its uid: seen in the kernel's own words."""
    container = created("hang")
    engine.start(container)

    lines = Path(f"/proc/{engine.inspect(container).pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    assert int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert set(status["Uid"].split()) == {"10001"}


def test_sees_sockets_processes_and_logs(engine: DockerEngine, created: Created) -> None:
    """The listening port, the one process and both streams are told apart."""
    engine.create_network(name := f"t{uuid4().hex[:8]}", {}, internal=True)
    try:
        container = created("quiet", network=name)
        engine.start(container)
        deadline = time.monotonic() + 5
        while not engine.listeners(container) and time.monotonic() < deadline:
            pass
        assert [each.port for each in engine.listeners(container)] == [8080]
        assert [each.uid for each in engine.processes(container)] == [10001]
        assert engine.logs(container).stderr == "listening\n"
        assert engine.logs(container).stdout == ""
        assert [each.id for each in engine.on_network(name)] == [container]
        engine.remove(container)
    finally:
        engine.remove_network(name)


def test_a_taken_port_is_busy(engine: DockerEngine, created: Created) -> None:
    """A published port that something else listens on is told as such."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        published = Published(address="127.0.0.1", port=other.getsockname()[1], container_port=8080)
        container = created(published=(published,), network="bridge")

        with pytest.raises(PortBusy):
            engine.start(container)


def test_a_program_that_is_not_there_is_not_started(engine: DockerEngine, created: Created) -> None:
    """An entrypoint that the image has not is the image's fault."""
    with pytest.raises(ProgramNotStarted):
        engine.start(created(command=("/nowhere",)))


def test_an_engine_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    """A socket that nobody listens on may have a listener next time."""
    with pytest.raises(EngineUnavailable) as error:
        DockerEngine.connect(f"unix://{tmp_path}/none.sock").versions()

    assert error.value.retryable


class Registry(http.server.BaseHTTPRequestHandler):
    """Just enough of a registry to be pulled from, with a password."""

    blobs: ClassVar[dict[str, bytes]] = {}
    types: ClassVar[dict[str, str]] = {}
    default_request_version = "HTTP/1.0"  # by such an answer the engine sees that this is not TLS

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
        """Nothing."""


@pytest.fixture
def registry(rootfs: bytes, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A registry's host, and the digest of the image in it."""
    path = tmp_path / "image.tar"
    digest = archive(path, rootfs, {"Entrypoint": ["/subject"], "Labels": {"test": uuid4().hex}})
    with tarfile.open(path) as tar:
        files = [tar.extractfile(member) for member in tar.getmembers() if member.name.startswith("blobs/")]
        contents = [file.read() for file in files if file]
    Registry.blobs = {"sha256:" + hashlib.sha256(content).hexdigest(): content for content in contents}
    Registry.types = {digest: "application/vnd.oci.image.manifest.v1+json"}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", digest
    server.shutdown()
    thread.join()
    server.server_close()


def test_pulls_by_digest(engine: DockerEngine, registry: tuple[str, str]) -> None:
    """What is pulled is called by the digest that was asked for."""
    host, digest = registry
    try:
        assert engine.pull(f"{host}/curated/subject", digest, Login("user", "password")).digest == digest
        assert engine.image(digest).digest == digest
    finally:
        engine._client.images.remove(digest, force=True)


def test_forgets_what_was_pulled(engine: DockerEngine, registry: tuple[str, str]) -> None:
    """By the name that pulling gave it; the content goes with its last name, and what is gone is fine."""
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
def test_a_pull_fails_in_the_chains_words(
    engine: DockerEngine, registry: tuple[str, str], wanted: str | None, password: str, error: type[SupplyChainError]
) -> None:
    """A wrong password is a denial, a digest the registry has not is not found."""
    host, digest = registry

    with pytest.raises(error):
        engine.pull(f"{host}/curated/subject", wanted or digest, Login("user", password))


def test_a_registry_that_is_down_may_come_back(engine: DockerEngine, port: int) -> None:
    """Nothing listens: try again later."""
    with pytest.raises(RegistryUnavailable) as error:
        engine.pull(f"127.0.0.1:{port}/curated/subject", ABSENT)

    assert error.value.retryable


def test_a_password_is_never_shown() -> None:
    """Neither in a log nor in an error's variables."""
    assert "secret" not in repr(Login("user", "secret"))
