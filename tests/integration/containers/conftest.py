"""Images that tests make without a registry, and an engine that is restored afterwards."""

import contextlib
import io
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from docker.errors import ImageNotFound

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.execution.environment import DockerEnvironment, DockerPlacement
from supply_chain.model.container import ENVIRONMENT
from supply_chain.model.declaration import Probe, Runtime, Service, Test
from tests.integration.containers.images import Declared, Image
from tests.support.layered import layered
from tests.support.place import free_port

PROXY = "cscm-test/proxy:trixie"


@pytest.fixture(scope="session")
def engine() -> DockerEngine:
    return DockerEngine.connect()


@pytest.fixture(scope="session")
def rootfs(program: Path) -> bytes:
    """A root filesystem with one static program and a directory that the application's user can write to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("subject")
        entry.mode, entry.size = 0o755, program.stat().st_size
        tar.addfile(entry, io.BytesIO(program.read_bytes()))
        data = tarfile.TarInfo("data")
        data.type, data.mode, data.uid, data.gid = tarfile.DIRTYPE, 0o755, 10001, 10001
        tar.addfile(data)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def loaded(engine: DockerEngine) -> Iterator[set[str]]:
    """Digests of the images that tests have loaded, which are removed at the end."""
    digests: set[str] = set()
    yield digests
    for digest in digests:
        with contextlib.suppress(ImageNotFound):
            engine._client.images.remove(digest, force=True)


@pytest.fixture(scope="session")
def session_id() -> str:
    return uuid4().hex


@pytest.fixture
def image(engine: DockerEngine, rootfs: bytes, loaded: set[str], session_id: str, tmp_path: Path) -> Image:
    """A function that loads an image with the given faults and returns its digest.

    Images that a test asks for differ. Other tests get the same ones: each removal of an image takes the engine longer
    the more images it has.
    """
    numbers: Counter[tuple[object, ...]] = Counter()

    def make(*faults: str, volumes: tuple[str, ...] = (), health: dict[str, object] | None = None) -> str:
        asked = (faults, volumes, str(health))
        numbers[asked] += 1
        path = tmp_path / "image.tar"
        config: dict[str, object] = {
            "Entrypoint": ["/subject"],
            "Cmd": list(faults),
            "Env": ["GREETING=hello"],
            "Volumes": {volume: {} for volume in volumes},
            "Healthcheck": health,
            "Labels": {"cscm.test": session_id, "number": str(numbers[asked])},
        }
        digest = layered(path, [rootfs], config)
        assert engine.load(path).digest == digest
        loaded.add(digest)
        return digest

    return make


@pytest.fixture(scope="session")
def proxy(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian's haproxy, in an image that is kept between test runs."""
    if not engine._client.images.list(PROXY):
        root = tmp_path_factory.mktemp("proxy") / "root.tar"
        subprocess.run(
            ["mmdebstrap", "--variant=extract", "--include=base-files,haproxy,netbase", "trixie", str(root)],
            check=True,
            timeout=300,
        )
        engine._api.import_image_from_file(str(root), repository=PROXY.partition(":")[0], tag=PROXY.partition(":")[2])
    return engine.image(PROXY).digest


@pytest.fixture(scope="session")
def other_proxy(engine: DockerEngine, proxy: str) -> Iterator[str]:
    """The same proxy in another image, as after an update of its base."""
    container = engine._client.containers.create(proxy, command="none")
    other = container.commit(repository="cscm-test/proxy", tag="other", changes=f"LABEL cscm.test={uuid4().hex}")
    container.remove()
    yield engine.image(str(other.id)).digest
    engine._client.images.remove(str(other.id), force=True)


@pytest.fixture
def service() -> Declared:
    """A function that declares the subject; arguments override fields of its runtime."""

    def make(name: str = "subject", **runtime: object) -> Service:
        return Service(
            kind="service",
            name=name,
            owner="tests",
            test=Test(command=("/subject", "status-0"), timeout=5),
            probe=Probe(port=8080, start_timeout=2, stop_timeout=1),
            runtime=Runtime.model_validate(runtime),
        )

    return make


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def environment(environment_name: str, port: int) -> DockerEnvironment:
    """The test's own environment, which contains the subject."""
    placement = DockerPlacement(port=port, environment={"GREETING": "from here"})
    return DockerEnvironment(name=environment_name, applications={"subject": placement})


@pytest.fixture
def environment_name(engine: DockerEngine) -> Iterator[str]:
    """A unique name; all resources with this label are removed after the test."""
    name = f"t{uuid4().hex[:8]}"
    yield name
    for container in engine.find({ENVIRONMENT: name}):
        engine.remove(container.id)
    for volume in engine._api.volumes(filters={"label": f"{ENVIRONMENT}={name}"})["Volumes"] or ():
        engine.remove_volume(volume["Name"])
    for network in engine._api.networks(filters={"label": f"{ENVIRONMENT}={name}"}):
        engine.remove_network(network["Name"])
