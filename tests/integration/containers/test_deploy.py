"""Deployments on the real engine, seen from the stable address."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.errors import Cancelled, DeploymentFailed, ImageDamaged, PortBusy
from supply_chain.execution.deploy import Deployment
from supply_chain.execution.environment import Environment
from supply_chain.execution.supply import tidy
from supply_chain.model.container import ENVIRONMENT, ROLE, ContainerSpec
from supply_chain.model.image import Digest, ImageRef
from supply_chain.readiness import request, trouble_at
from tests.support.place import free_port

from .conftest import Declared, Image, carried_out, order

pytestmark = pytest.mark.real

Wait = Callable[[float], None]
Run = Callable[..., Deployment]


@pytest.fixture
def run(engine: DockerEngine, environment: Environment, service: Declared, proxy: str) -> Run:
    """A function that deploys an image into the test's own environment."""

    def deployed(
        image: str, into: Environment = environment, proxy_image: str = proxy, wait: Wait = time.sleep
    ) -> Deployment:
        return carried_out(engine, order(image, into, service(), proxy_image), wait=wait)

    return deployed


def body(deployment: Deployment) -> str:
    connection = http.client.HTTPConnection(deployment.address, deployment.port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def there(engine: DockerEngine, environment: Environment) -> list[str]:
    return sorted(c.name for c in engine.find({ENVIRONMENT: environment.name}))


class Tidied(DockerEngine):
    """An engine whose images all came from a registry, and that notes what is removed."""

    def __init__(self, engine: DockerEngine, *digests: str) -> None:
        super().__init__(engine._client)
        self.names_of = {digest: (f"there/curated/subject@{digest}",) for digest in digests}
        self.kept = set(digests)

    def names(self, repository: str) -> Mapping[Digest, tuple[str, ...]]:
        return self.names_of if repository == "there/curated/subject" else {}

    def forget(self, name: str) -> None:
        self.kept.remove(name.partition("@")[2])


@contextmanager
def load(environment: Environment) -> Iterator[list[int | str]]:
    """Users who request the address without a pause; the statuses they got."""
    placement, end = environment.applications["subject"], threading.Event()
    seen: list[int | str] = []

    def use() -> None:
        connection = http.client.HTTPConnection(placement.address, placement.port, timeout=5)
        while not end.is_set():
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                response.read()
                seen.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                seen.append(repr(error))
            end.wait(0.002)
        connection.close()

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    try:
        yield seen
    finally:
        end.set()
        for user in users:
            user.join()


def test_a_first_deployment_serves_at_its_address(
    engine: DockerEngine, run: Run, image: Image, environment: Environment
) -> None:
    """The application answers at the stable address, with the environment's configuration, hardened."""
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


def test_the_same_again_is_left_alone(engine: DockerEngine, run: Run, image: Image, environment: Environment) -> None:
    """A deployment of what already runs and is well changes nothing."""
    digest = image()
    first, before = run(digest), there(engine, environment)

    again = run(digest)

    assert not again.changed
    assert (again.container, again.front) == (first.container, first.front)
    assert there(engine, environment) == before


def test_a_new_version_takes_over_under_load(
    engine: DockerEngine, run: Run, image: Image, environment: Environment
) -> None:
    """Users notice nothing, the old container is gone, and the gap was measured."""
    first, digest = run(image()), image()
    with load(environment) as seen:
        second = run(digest)

    refused = [status for status in seen if status != 200]
    assert refused == []
    assert len(seen) > 100
    assert second.previous == first.name
    assert second.previous_digest == first.digest
    assert second.failed_requests == 0
    assert second.requests > 0
    assert second.gap_seconds is not None
    assert second.front == first.front
    running = engine.find({ENVIRONMENT: environment.name, ROLE: "application"})
    assert [c.image for c in running] == [digest]
    assert body(second) == "from here"


def test_the_version_before_is_kept_for_going_back(
    engine: DockerEngine, run: Run, image: Image, environment: Environment
) -> None:
    """What runs and what ran before are needed in the engine, and nothing older; the same again changes nothing."""
    oldest, older, newest = image(), image(), image()
    for digest in (oldest, older, newest, newest):
        run(digest)
    placement = environment.applications["subject"].model_copy(update={"environment": {}})
    run(newest, into=environment.model_copy(update={"applications": {"subject": placement}}))

    tidied = Tidied(engine, oldest, older, newest)
    tidy(lambda: tidied, "there", ["curated/subject"])

    assert tidied.kept == {older, newest}


def test_another_configuration_is_another_deployment(run: Run, image: Image, environment: Environment) -> None:
    """The same digest with another configuration replaces what runs."""
    digest = image()
    first = run(digest)
    placement = environment.applications["subject"].model_copy(update={"environment": {"GREETING": "changed"}})

    second = run(digest, into=environment.model_copy(update={"applications": {"subject": placement}}))

    assert second.changed
    assert second.container != first.container
    assert body(second) == "changed"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("crash", "it ended with status 3"),
        ("crash", "configuration missing: cannot go on"),
        ("wrong-port", "no answer from port 8080"),
        ("sick", "/ is answered with 500"),
        ("dies-later", "it ended with status 5"),
    ],
)
def test_a_version_that_does_not_work_changes_nothing(
    engine: DockerEngine, run: Run, image: Image, environment: Environment, fault: str, told: str
) -> None:
    """The old container serves on, the new one is gone, and the error has its last words."""
    first = run(image())
    before = there(engine, environment)
    with load(environment) as seen, pytest.raises(DeploymentFailed, match=told):
        run(image(fault))

    assert set(seen) == {200}
    assert there(engine, environment) == before
    assert engine.inspect(first.container).restarts == 0
    assert body(first) == "from here"


def test_a_first_version_that_does_not_work_leaves_nothing(
    engine: DockerEngine, run: Run, image: Image, environment: Environment
) -> None:
    """Where nothing ran, nothing runs after a failure."""
    with pytest.raises(DeploymentFailed):
        run(image("crash"))

    assert there(engine, environment) == []


def test_a_taken_port_is_told_and_leaves_nothing(
    engine: DockerEngine, run: Run, image: Image, environment: Environment
) -> None:
    """Another program at the stable address is the reason given."""
    placement = environment.applications["subject"]
    with socket.socket() as other:
        other.bind((placement.address, placement.port))
        other.listen()
        with pytest.raises(PortBusy, match="address already in use"):
            run(image())

    assert there(engine, environment) == []


def test_a_new_address_that_is_taken_keeps_the_old_one(
    engine: DockerEngine, run: Run, image: Image, environment: Environment
) -> None:
    """When the front cannot move, it stays where it was, with the old container behind it."""
    first = run(image())
    before = there(engine, environment)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        placement = environment.applications["subject"].model_copy(update={"port": other.getsockname()[1]})
        moved = environment.model_copy(update={"applications": {"subject": placement}})
        with pytest.raises(PortBusy, match="address already in use"):
            run(image(), into=moved)

    assert there(engine, environment) == before
    assert body(first) == "from here"


def test_a_new_address_moves_the_front(engine: DockerEngine, run: Run, image: Image, environment: Environment) -> None:
    """The application answers at its new address and no longer at the old one."""
    first = run(image())
    placement = environment.applications["subject"].model_copy(update={"port": free_port()})

    second = run(image(), into=environment.model_copy(update={"applications": {"subject": placement}}))

    assert body(second) == "from here"
    assert second.gap_seconds is None  # nothing was interrupted at the new address
    with pytest.raises(OSError, match="refused"):
        request(first.address, first.port, "/")
    assert len(there(engine, environment)) == 2


def test_a_cancelled_deployment_leaves_what_was_there(
    engine: DockerEngine, run: Run, image: Image, environment: Environment
) -> None:
    """Cancelling while the new container starts removes it, and the old one serves on."""
    first = run(image())
    before = there(engine, environment)

    def wait(seconds: float) -> None:
        raise Cancelled("The run was cancelled while it waited.")

    with pytest.raises(Cancelled):
        run(image("slow"), wait=wait)

    assert there(engine, environment) == before
    assert body(first) == "from here"


def test_a_front_that_was_stopped_is_started_by_the_next_deployment(
    engine: DockerEngine, run: Run, image: Image
) -> None:
    """An operator's docker stop of the front is mended by deploying again."""
    digest = image()
    first = run(digest)
    engine.stop(first.front, 5)

    again = run(digest)

    assert again.changed
    assert body(again) == "from here"


def test_another_image_than_the_admitted_one_is_not_started(
    engine: DockerEngine, environment: Environment, service: Declared, proxy: str, image: Image
) -> None:
    """A supply that brings the wrong content is found out before anything starts."""
    admitted, other = image(), image("quiet")

    class Wrong:
        def supply(self, ref: ImageRef) -> Digest:
            return other

    with pytest.raises(ImageDamaged):
        carried_out(engine, order(admitted, environment, service(), proxy), Wrong())

    assert there(engine, environment) == []


def test_a_proxy_that_does_not_work_leaves_the_one_before(
    engine: DockerEngine, environment: Environment, service: Declared, proxy: str, image: Image, run: Run
) -> None:
    """A new proxy image that is none does not cost the address, not even one request."""
    first = run(image())
    before = there(engine, environment)
    broken = image("crash")

    with load(environment) as seen, pytest.raises(DeploymentFailed, match="haproxy"):
        carried_out(engine, order(image(), environment, service(), broken))

    assert set(seen) == {200}
    assert there(engine, environment) == before
    assert body(first) == "from here"


def test_another_proxy_takes_over_the_address(
    engine: DockerEngine, environment: Environment, other_proxy: str, image: Image, run: Run
) -> None:
    """The new front serves at the same address, what that cost is recorded, and the old front is gone."""
    first, digest = run(image()), image()

    second = run(digest, proxy_image=other_proxy)

    left = engine.find({ENVIRONMENT: environment.name})
    assert sorted(c.image for c in left) == sorted([digest, other_proxy])
    assert body(second) == "from here"
    assert (second.address, second.port) == (first.address, first.port)
    assert second.front_replaced
    assert second.gap_seconds is not None and second.gap_seconds > 0
    assert not run(digest, proxy_image=other_proxy).changed


def test_a_front_that_cannot_get_the_address_gives_it_back(
    engine: DockerEngine, environment: Environment, service: Declared, other_proxy: str, image: Image, run: Run
) -> None:
    """When the run is cancelled as the address changes hands, the front before has it again."""
    first, handed = run(image()), threading.Event()
    before = there(engine, environment)

    class Handing(DockerEngine):
        def attach(self, network: str, container: str) -> None:
            super().attach(network, container)
            if network == environment.edge and not handed.is_set():
                handed.set()
                raise Cancelled("The run was cancelled as the address changed hands.")

    with pytest.raises(Cancelled):
        taken = order(image(), environment, service(), other_proxy)
        carried_out(Handing(engine._client), taken)

    assert handed.is_set()
    assert there(engine, environment) == before
    assert body(first) == "from here"


@pytest.mark.parametrize("same", [False, True], ids=["of another version", "of the same"])
def test_what_an_interrupted_deployment_left_is_cleared_away(
    engine: DockerEngine, run: Run, image: Image, environment: Environment, same: bool
) -> None:
    """Containers and a front's configuration that a killed run left behind go with the next deployment."""
    digest = image()
    first = run(digest)
    left = engine.inspect(first.container)
    spec = ContainerSpec(
        image=left.image, name=f"{left.name}9", labels=left.labels, profile=left.profile, network=environment.network
    )
    engine.start(engine.create(spec))
    front = engine.inspect(first.front)
    volume = f"{front.name}9"
    engine.create_volume(volume, front.labels)
    engine.create(spec.model_copy(update={"name": volume, "labels": front.labels}))
    engine.create_volume(f"{front.name}8", front.labels)

    second = run(digest if same else image())

    assert {c.id for c in engine.find({ENVIRONMENT: environment.name})} == {second.container, second.front}
    assert engine.volumes({ENVIRONMENT: environment.name}) == (front.name,)


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 6, 9, 14])
def test_cancelled_at_any_moment_one_version_serves(
    engine: DockerEngine, run: Run, image: Image, environment: Environment, moment: int
) -> None:
    """Wherever a deployment is cut off, exactly one container is left, and it answers."""
    first, waits = run(image()), iter(range(1, 10_000))

    def wait(seconds: float) -> None:
        if next(waits) == moment:
            raise Cancelled("The run was cancelled while it waited.")
        time.sleep(seconds)

    with suppress(Cancelled):
        run(image(), wait=wait)

    left = engine.find({ENVIRONMENT: environment.name})
    assert sorted(c.labels[ROLE] for c in left) == ["application", "front"]
    assert all(c.running and c.restart for c in left)
    deadline = time.monotonic() + 2  # the front may be turning back
    while trouble_at(first.address, first.port, "/") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert body(first) == "from here"
