"""What the monitor reports on the real engine after manual changes."""

from collections.abc import Callable

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.monitor import monitor
from supply_chain.execution.observation import Observation
from supply_chain.model.container import ContainerSpec, Profile, make_profile
from supply_chain.model.declaration import Service
from tests.integration.containers.images import Declared, Image, carried_out, now, order

pytestmark = pytest.mark.real

DECLARED = {"GREETING": "from its owner", "SETTING": "here"}


@pytest.fixture
def deployed(
    engine: DockerEngine, environment: DockerEnvironment, service: Declared, proxy: str, image: Image
) -> Deployment:
    """A healthy deployment."""
    return deployment(engine, environment, service(), proxy, image())


def deployment(
    engine: DockerEngine, environment: DockerEnvironment, declaration: Service, proxy: str, digest: str
) -> Deployment:
    return carried_out(engine, order(digest, environment, declaration, proxy))


@pytest.fixture
def with_init(
    engine: DockerEngine, environment: DockerEnvironment, service: Declared, proxy: str, image: Image
) -> Deployment:
    """A deployment of an image without a SIGTERM handler, with variables and the engine's init."""
    return deployment(engine, environment, service(init=True, environment=DECLARED), proxy, image("no-handler"))


Observe = Callable[..., tuple[Observation, ...]]


@pytest.fixture
def observe(engine: DockerEngine, environment: DockerEnvironment) -> Observe:
    """A function that runs the monitor for the expected deployments."""
    return lambda *expected: monitor(engine, expected, [environment], now)


def codes(observation: Observation) -> list[str]:
    return sorted(deviation.code for deviation in observation.deviations)


def test_monitor_reports_no_deviation_after_a_deployment(deployed: Deployment, observe: Observe) -> None:
    """Changes by the engine itself are no drift."""
    (observation,) = observe(deployed)

    assert observation.deviations == ()
    assert observation.healthy
    assert observation.running == deployed.digest
    assert observation.status == "running"


def test_declared_init_and_variables_are_no_drift(
    engine: DockerEngine, with_init: Deployment, observe: Observe
) -> None:
    """The environment's variables override the declared ones."""
    (observation,) = observe(with_init)

    assert observation.deviations == ()
    assert with_init.settings == {"GREETING": "from here", "SETTING": "here"}
    assert with_init.settings.items() <= engine.inspect(with_init.container).environment.items()


def test_monitor_reports_a_stopped_container(engine: DockerEngine, deployed: Deployment, observe: Observe) -> None:
    """The observation has the exit code, and the address is unhealthy."""
    engine.stop(deployed.container, 5)

    (observation,) = observe(deployed)

    assert codes(observation) == ["drift.stopped", "drift.unhealthy"]
    assert observation.exit_code == 0
    assert observation.running == ""
    assert not observation.healthy


def test_monitor_reports_a_missing_container(engine: DockerEngine, deployed: Deployment, observe: Observe) -> None:
    """The container was removed."""
    engine.remove(deployed.container)

    (observation,) = observe(deployed)

    assert codes(observation) == ["drift.missing", "drift.unhealthy"]
    assert observation.status == "missing"


def test_monitor_reports_a_missing_reverse_proxy(engine: DockerEngine, deployed: Deployment, observe: Observe) -> None:
    """The application runs but cannot be reached."""
    engine.remove(deployed.reverse_proxy)

    (observation,) = observe(deployed)

    assert codes(observation) == ["drift.reverse-proxy", "drift.unhealthy"]
    assert observation.running == deployed.digest


@pytest.mark.parametrize("how", ["label", "network"])
def test_monitor_reports_a_foreign_container(
    engine: DockerEngine, deployed: Deployment, observe: Observe, environment: DockerEnvironment, image: Image, how: str
) -> None:
    """It is found by the environment's network or by a label."""
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
        own, stranger = observe(deployed)
        (alone,) = monitor(engine, [deployed], [environment], now, "subject")
    finally:
        engine.remove(name)

    assert own.deviations == ()
    assert codes(stranger) == ["drift.foreign"]
    assert stranger.name == name
    assert stranger.application == ""
    assert alone.name == own.name  # a check of one application does not report foreign containers


def test_monitor_reports_a_raised_limit(engine: DockerEngine, deployed: Deployment, observe: Observe) -> None:
    """The fact has the actual and the deployed value."""
    engine._api.update_container(deployed.container, mem_limit="512m", memswap_limit="512m")

    (observation,) = observe(deployed)

    assert codes(observation) == ["drift.profile"]
    assert "memory is 536870912, not 134217728" in observation.deviations[0].fact


def test_monitor_reports_every_deviation_of_a_replaced_container(
    engine: DockerEngine,
    deployed: Deployment,
    observe: Observe,
    environment: DockerEnvironment,
    image: Image,
    service: Declared,
) -> None:
    """Image, settings, files, network and profile differ; values of settings are not shown."""
    name = f"impostor-{environment.name}"
    spec = ContainerSpec(
        image=image("writes"),
        name=name,
        labels={},
        profile=make_profile(service().runtime).model_copy(update={"read_only": False, "dropped": ()}),
        environment={"GREETING": "somebody else's"},
        network="bridge",
    )
    try:
        engine.start(engine.create(spec))
        impostor = engine.inspect(name)
        observation = observe(deployed.model_copy(update={"container": impostor.id}))[0]
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


def test_monitor_reports_a_container_that_restarts(
    engine: DockerEngine,
    deployed: Deployment,
    observe: Observe,
    image: Image,
    service: Declared,
    environment: DockerEnvironment,
) -> None:
    """The engine restarts it and counts the restarts."""
    name = f"ending-{environment.name}"
    spec = ContainerSpec(
        image=image("crash"), name=name, labels={}, profile=make_profile(service().runtime), restart=True
    )
    try:
        engine.start(engine.create(spec))
        while engine.inspect(name).restarts < 2:
            pass
        crashing = deployed.model_copy(update={"container": engine.inspect(name).id})
        observation = observe(crashing)[0]
    finally:
        engine.remove(name)

    assert "drift.restarts" in codes(observation)
    assert observation.restarts >= 2
