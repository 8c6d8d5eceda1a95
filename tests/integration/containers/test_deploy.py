"""Deployments on the real engine, observed at the stable address."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.errors import Cancelled, DeploymentFailed, ImageDamaged, PortBusy
from supply_chain.execution.deployment import Deployment, read_docker_place
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.supply import remove_unneeded
from supply_chain.model.container import ENVIRONMENT, ROLE, ContainerSpec
from supply_chain.model.image import Digest
from supply_chain.readiness import probe_readiness, request
from tests.integration.containers.images import Declared, Image, carried_out, order
from tests.support.place import free_port

pytestmark = pytest.mark.real

Wait = Callable[[float], None]
Run = Callable[..., Deployment]


@pytest.fixture
def run(engine: DockerEngine, environment: DockerEnvironment, service: Declared, proxy: str) -> Run:
    """A function that deploys an image into the test's environment."""

    def deployed(
        image: str, into: DockerEnvironment = environment, proxy_image: str = proxy, wait: Wait = time.sleep
    ) -> Deployment:
        return carried_out(engine, order(image, into, service(), proxy_image), wait=wait)

    return deployed


def address(deployment: Deployment) -> tuple[str, int]:
    place = read_docker_place(deployment)
    return place.address, place.port


def body(deployment: Deployment) -> str:
    connection = http.client.HTTPConnection(*address(deployment), timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def container_names(engine: DockerEngine, environment: DockerEnvironment) -> list[str]:
    return sorted(c.name for c in engine.find({ENVIRONMENT: environment.name}))


class Tidied(DockerEngine):
    """An engine whose images all come from a registry; it records the names that are removed."""

    def __init__(self, engine: DockerEngine, *digests: str) -> None:
        super().__init__(engine._client)
        self.names_of = {digest: (f"there/curated/subject@{digest}",) for digest in digests}
        self.remaining = set(digests)

    def names(self, repository: str) -> Mapping[Digest, tuple[str, ...]]:
        return self.names_of if repository == "there/curated/subject" else {}

    def forget(self, name: str) -> None:
        self.remaining.remove(name.partition("@")[2])


@contextmanager
def load(environment: DockerEnvironment) -> Iterator[list[int | str]]:
    """Send requests to the address without a pause, and collect the status codes."""
    placement, end = environment.applications["subject"], threading.Event()
    statuses: list[int | str] = []

    def use() -> None:
        connection = http.client.HTTPConnection(placement.address, placement.port, timeout=5)
        while not end.is_set():
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                statuses.append(repr(error))
            end.wait(0.002)
        connection.close()

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    try:
        yield statuses
    finally:
        end.set()
        for user in users:
            user.join()


def test_first_deployment_serves_hardened_application_at_its_address(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """It has the environment's configuration."""
    digest = image()

    done = run(digest)

    running = engine.inspect(done.container)
    assert body(done) == "from here"
    assert running.image == digest == done.digest
    assert running.profile == done.profile
    assert running.restart
    assert running.published == ()
    assert list(running.networks) == [environment.network]
    assert running.environment["GREETING"] == "from here"
    assert done.changed
    assert done.gap_seconds is None
    assert done.ready_seconds is not None and done.ready_seconds > 0


def test_repeated_deployment_changes_nothing(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """A healthy container of the same image and configuration stays."""
    digest = image()
    first, before = run(digest), container_names(engine, environment)

    again = run(digest)

    assert not again.changed
    assert (again.container, again.reverse_proxy) == (first.container, first.reverse_proxy)
    assert container_names(engine, environment) == before


def test_new_version_takes_over_without_failed_requests(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """The old container is removed, and the gap is measured."""
    first, digest = run(image()), image()
    with load(environment) as statuses:
        second = run(digest)

    refused = [status for status in statuses if status != 200]
    assert refused == []
    assert len(statuses) > 100
    assert second.previous == first.name
    assert second.previous_digest == first.digest
    assert second.failed_requests == 0
    assert second.requests > 0
    assert second.gap_seconds is not None
    assert second.reverse_proxy == first.reverse_proxy
    running = engine.find({ENVIRONMENT: environment.name, ROLE: "application"})
    assert [c.image for c in running] == [digest]
    assert body(second) == "from here"


def test_current_and_previous_images_remain_for_rollback(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """Older images are removed; a repeated deployment does not change the previous one."""
    oldest, older, newest = image(), image(), image()
    for digest in (oldest, older, newest, newest):
        run(digest)
    placement = environment.applications["subject"].model_copy(update={"environment": {}})
    run(newest, into=environment.model_copy(update={"applications": {"subject": placement}}))

    tidied = Tidied(engine, oldest, older, newest)
    remove_unneeded(lambda: tidied, "there", ["curated/subject"])

    assert tidied.remaining == {older, newest}


def test_changed_configuration_replaces_the_container(run: Run, image: Image, environment: DockerEnvironment) -> None:
    """The digest stays the same."""
    digest = image()
    first = run(digest)
    placement = environment.applications["subject"].model_copy(update={"environment": {"GREETING": "changed"}})

    second = run(digest, into=environment.model_copy(update={"applications": {"subject": placement}}))

    assert second.changed
    assert second.container != first.container
    assert body(second) == "changed"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", r"(?s)it ended with status 3.*configuration missing: cannot go on"),
        ("wrong-port", "no answer from port 8080"),
        ("sick", "/ is answered with 500"),
        ("dies-later", "it ended with status 5"),
    ],
)
def test_faulty_version_leaves_the_old_container_in_service(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment, fault: str, message: str
) -> None:
    """The new container is removed, and the error includes its last output."""
    first = run(image())
    before = container_names(engine, environment)
    with load(environment) as statuses, pytest.raises(DeploymentFailed, match=message):
        run(image(fault))

    assert set(statuses) == {200}
    assert container_names(engine, environment) == before
    assert engine.inspect(first.container).restarts == 0
    assert body(first) == "from here"


def test_faulty_first_version_leaves_no_container(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """An environment that was empty is empty after the failure."""
    with pytest.raises(DeploymentFailed):
        run(image("crash"))

    assert container_names(engine, environment) == []


def test_deployment_to_a_taken_port_fails_and_leaves_no_container(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """The error names the reason."""
    placement = environment.applications["subject"]
    with socket.socket() as other:
        other.bind((placement.address, placement.port))
        other.listen()
        with pytest.raises(PortBusy, match="address already in use"):
            run(image())

    assert container_names(engine, environment) == []


def test_move_to_a_taken_port_keeps_the_old_address(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """The reverse proxy stays at its address with the old container behind it."""
    first = run(image())
    before = container_names(engine, environment)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        placement = environment.applications["subject"].model_copy(update={"port": other.getsockname()[1]})
        moved = environment.model_copy(update={"applications": {"subject": placement}})
        with pytest.raises(PortBusy, match="address already in use"):
            run(image(), into=moved)

    assert container_names(engine, environment) == before
    assert body(first) == "from here"


def test_changed_port_moves_the_reverse_proxy(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """The old address no longer answers."""
    first = run(image())
    placement = environment.applications["subject"].model_copy(update={"port": free_port()})

    second = run(image(), into=environment.model_copy(update={"applications": {"subject": placement}}))

    assert body(second) == "from here"
    assert second.gap_seconds is None  # the new address had no earlier service
    with pytest.raises(OSError, match="refused"):
        request(*address(first), "/")
    assert len(container_names(engine, environment)) == 2


def test_cancelled_deployment_keeps_the_old_container(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment
) -> None:
    """The new container is removed although it was starting."""
    first = run(image())
    before = container_names(engine, environment)

    def wait(seconds: float) -> None:
        raise Cancelled("The run was cancelled while it waited.")

    with pytest.raises(Cancelled):
        run(image("slow"), wait=wait)

    assert container_names(engine, environment) == before
    assert body(first) == "from here"


def test_deployment_restarts_a_stopped_reverse_proxy(engine: DockerEngine, run: Run, image: Image) -> None:
    """An operator repairs the environment by deploying again."""
    digest = image()
    first = run(digest)
    engine.stop(first.reverse_proxy, 5)

    again = run(digest)

    assert again.changed
    assert body(again) == "from here"


def test_image_that_differs_from_the_admitted_one_is_not_started(
    engine: DockerEngine, environment: DockerEnvironment, service: Declared, proxy: str, image: Image
) -> None:
    """The digest is compared before anything starts."""
    admitted, other = image(), image("quiet")

    with pytest.raises(ImageDamaged):
        carried_out(engine, order(admitted, environment, service(), proxy), lambda: other)

    assert container_names(engine, environment) == []


def test_faulty_proxy_image_keeps_the_old_proxy_in_service(
    engine: DockerEngine, environment: DockerEnvironment, service: Declared, proxy: str, image: Image, run: Run
) -> None:
    """Not one request fails."""
    first = run(image())
    before = container_names(engine, environment)
    broken = image("crash")

    with load(environment) as statuses, pytest.raises(DeploymentFailed, match="haproxy"):
        carried_out(engine, order(image(), environment, service(), broken))

    assert set(statuses) == {200}
    assert container_names(engine, environment) == before
    assert body(first) == "from here"


def test_new_proxy_image_takes_over_the_address(
    engine: DockerEngine, environment: DockerEnvironment, other_proxy: str, image: Image, run: Run
) -> None:
    """The gap is recorded, and the old reverse proxy is removed."""
    first, digest = run(image()), image()

    second = run(digest, proxy_image=other_proxy)

    left = engine.find({ENVIRONMENT: environment.name})
    assert sorted(c.image for c in left) == sorted([digest, other_proxy])
    assert body(second) == "from here"
    assert address(second) == address(first)
    assert second.reverse_proxy_replaced
    assert second.gap_seconds is not None and second.gap_seconds > 0
    assert not run(digest, proxy_image=other_proxy).changed


def test_cancelled_proxy_change_returns_the_address(
    engine: DockerEngine, environment: DockerEnvironment, service: Declared, other_proxy: str, image: Image, run: Run
) -> None:
    """The old reverse proxy serves again."""
    first, handed = run(image()), threading.Event()
    before = container_names(engine, environment)

    class Handing(DockerEngine):
        def attach(self, network: str, container: str) -> None:
            super().attach(network, container)
            if network == environment.edge and not handed.is_set():
                handed.set()
                raise Cancelled("The run was cancelled as the address changed hands.")

    taken = order(image(), environment, service(), other_proxy)
    with pytest.raises(Cancelled):
        carried_out(Handing(engine._client), taken)

    assert handed.is_set()
    assert container_names(engine, environment) == before
    assert body(first) == "from here"


@pytest.mark.parametrize("same", [False, True], ids=["of another version", "of the same"])
def test_deployment_removes_the_remains_of_an_interrupted_one(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment, same: bool
) -> None:
    """A killed run may leave containers and volumes of the reverse proxy."""
    digest = image()
    first = run(digest)
    left = engine.inspect(first.container)
    spec = ContainerSpec(
        image=left.image, name=f"{left.name}9", labels=left.labels, profile=left.profile, network=environment.network
    )
    engine.start(engine.create(spec))
    reverse_proxy = engine.inspect(first.reverse_proxy)
    volume = f"{reverse_proxy.name}9"
    engine.create_volume(volume, reverse_proxy.labels)
    engine.create(spec.model_copy(update={"name": volume, "labels": reverse_proxy.labels}))
    engine.create_volume(f"{reverse_proxy.name}8", reverse_proxy.labels)

    second = run(digest if same else image())

    assert {c.id for c in engine.find({ENVIRONMENT: environment.name})} == {second.container, second.reverse_proxy}
    assert engine.volumes({ENVIRONMENT: environment.name}) == (reverse_proxy.name,)


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 6, 9, 14])
def test_deployment_cancelled_at_any_moment_leaves_one_version(
    engine: DockerEngine, run: Run, image: Image, environment: DockerEnvironment, moment: int
) -> None:
    """The remaining container answers."""
    first, waits = run(image()), iter(range(1, 10_000))

    def wait(seconds: float) -> None:
        if next(waits) == moment:
            raise Cancelled("The run was cancelled while it waited.")
        time.sleep(seconds)

    with suppress(Cancelled):
        run(image(), wait=wait)

    left = engine.find({ENVIRONMENT: environment.name})
    assert sorted(c.labels[ROLE] for c in left) == ["application", "reverse-proxy"]
    assert all(c.running and c.restart for c in left)
    deadline = time.monotonic() + 2  # the reverse proxy may still be switching back
    while probe_readiness(*address(first), "/") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert body(first) == "from here"
