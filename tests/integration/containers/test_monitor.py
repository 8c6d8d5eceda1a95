"""What the monitor sees on the real engine when somebody meddles."""

from collections.abc import Callable

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.execution.deploy import Deployment
from supply_chain.execution.environment import Environment
from supply_chain.execution.monitor import Observation, monitor
from supply_chain.model.container import ContainerSpec, Profile, profile
from supply_chain.model.manifest import Service

from .conftest import Declared, Image, carried_out, now, order

pytestmark = pytest.mark.real

DECLARED = {"GREETING": "from its owner", "SETTING": "here"}


@pytest.fixture
def deployed(engine: DockerEngine, environment: Environment, service: Declared, proxy: str, image: Image) -> Deployment:
    """A deployment that is well."""
    return deployment(engine, environment, service(), proxy, image())


def deployment(
    engine: DockerEngine, environment: Environment, manifest: Service, proxy: str, digest: str
) -> Deployment:
    return carried_out(engine, order(digest, environment, manifest, proxy))


@pytest.fixture
def with_init(
    engine: DockerEngine, environment: Environment, service: Declared, proxy: str, image: Image
) -> Deployment:
    """A deployment of an image without a handler for SIGTERM, with variables and an init of its own."""
    return deployment(engine, environment, service(init=True, environment=DECLARED), proxy, image("no-handler"))


Seen = Callable[..., tuple[Observation, ...]]


@pytest.fixture
def seen(engine: DockerEngine, environment: Environment) -> Seen:
    """A function from what should run to what the monitor says."""
    return lambda *expected: monitor(engine, expected, [environment], now)


def codes(observation: Observation) -> list[str]:
    return sorted(deviation.code for deviation in observation.deviations)


def test_all_is_well_after_a_deployment(deployed: Deployment, seen: Seen) -> None:
    """Nothing is reported where nothing is wrong, not even what the engine itself changes."""
    (observation,) = seen(deployed)

    assert observation.deviations == ()
    assert observation.healthy
    assert observation.running == deployed.digest
    assert observation.status == "running"


def test_what_is_declared_runs_as_declared(engine: DockerEngine, with_init: Deployment, seen: Seen) -> None:
    """The engine's init is no drift; the environment's own variables come on top of the declared ones."""
    (observation,) = seen(with_init)

    assert observation.deviations == ()
    assert with_init.settings == {"GREETING": "from here", "SETTING": "here"}
    assert with_init.settings.items() <= engine.inspect(with_init.container).environment.items()


def test_a_stopped_container_is_seen(engine: DockerEngine, deployed: Deployment, seen: Seen) -> None:
    """A container that somebody stopped is told with its exit code, and that the address is not well."""
    engine.stop(deployed.container, 5)

    (observation,) = seen(deployed)

    assert codes(observation) == ["drift.stopped", "drift.unhealthy"]
    assert observation.exit_code == 0
    assert observation.running == ""
    assert not observation.healthy


def test_a_removed_container_is_missing(engine: DockerEngine, deployed: Deployment, seen: Seen) -> None:
    """A container that is gone is missing."""
    engine.remove(deployed.container)

    (observation,) = seen(deployed)

    assert codes(observation) == ["drift.missing", "drift.unhealthy"]
    assert observation.status == "missing"


def test_a_front_that_is_gone_is_seen(engine: DockerEngine, deployed: Deployment, seen: Seen) -> None:
    """Without its front the application runs and is not reached."""
    engine.remove(deployed.front)

    (observation,) = seen(deployed)

    assert codes(observation) == ["drift.front", "drift.unhealthy"]
    assert observation.running == deployed.digest


@pytest.mark.parametrize("how", ["label", "network"])
def test_a_container_nobody_deployed_is_seen(
    engine: DockerEngine, deployed: Deployment, seen: Seen, environment: Environment, image: Image, how: str
) -> None:
    """A stranger is found on the environment's network, and by a label it has no right to."""
    name = f"stranger-{environment.name}"
    spec = ContainerSpec(
        image=image("hang"),
        name=name,
        labels={"cscm.environment": environment.name} if how == "label" else {},
        profile=Profile(user="0:0", memory=64 * 1024**2, pids=16),
        network="none" if how == "label" else environment.network,
    )
    try:
        engine.start(engine.create(spec))
        own, stranger = seen(deployed)
        (alone,) = monitor(engine, [deployed], [environment], now, "subject")
    finally:
        engine.remove(name)

    assert own.deviations == ()
    assert codes(stranger) == ["drift.foreign"]
    assert stranger.name == name
    assert stranger.application == ""
    assert alone.name == own.name  # whoever looks at one application alone leaves the strangers to the others


def test_a_container_with_more_than_it_was_given_is_seen(
    engine: DockerEngine, deployed: Deployment, seen: Seen
) -> None:
    """A limit that somebody raised on the running container is told."""
    engine._api.update_container(deployed.container, mem_limit="512m", memswap_limit="512m")

    (observation,) = seen(deployed)

    assert codes(observation) == ["drift.profile"]
    assert "memory is 536870912, not 134217728" in observation.deviations[0].fact


def test_a_container_in_place_of_the_deployed_one_is_seen_through(
    engine: DockerEngine, deployed: Deployment, seen: Seen, environment: Environment, image: Image, service: Declared
) -> None:
    """Another image, other settings, a writable root with files in it and another network are all told."""
    name = f"impostor-{environment.name}"
    spec = ContainerSpec(
        image=image("writes"),
        name=name,
        labels={},
        profile=profile(service().runtime).model_copy(update={"read_only": False, "dropped": ()}),
        environment={"GREETING": "somebody else's"},
        network="bridge",
    )
    try:
        engine.start(engine.create(spec))
        impostor = engine.inspect(name)
        observation = seen(deployed.model_copy(update={"container": impostor.id}))[0]
    finally:
        engine.remove(name)

    assert codes(observation) == [
        "drift.configuration",
        "drift.digest",
        "drift.files",
        "drift.network",
        "drift.profile",
    ]
    facts = " ".join(deviation.fact for deviation in observation.deviations)
    assert "/data/state (added)" in facts
    assert "GREETING" in facts
    assert "somebody else's" not in facts
    assert "read_only is False, not True" in facts


def test_a_container_that_keeps_ending_is_seen(
    engine: DockerEngine, deployed: Deployment, seen: Seen, image: Image, service: Declared, environment: Environment
) -> None:
    """The engine starts it again, and the count is told."""
    name = f"ending-{environment.name}"
    spec = ContainerSpec(image=image("crash"), name=name, labels={}, profile=profile(service().runtime), restart=True)
    try:
        engine.start(engine.create(spec))
        while engine.inspect(name).restarts < 2:
            pass
        crashing = deployed.model_copy(update={"container": engine.inspect(name).id})
        observation = seen(crashing)[0]
    finally:
        engine.remove(name)

    assert "drift.restarts" in codes(observation)
    assert observation.restarts >= 2
