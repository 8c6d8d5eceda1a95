"""Finds containers that reach the real engine's host, and access to deployed containers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.host import HostObservation, read_host
from tests.integration.containers.images import Declared, Image, carried_out, now, order
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

Run = Callable[..., str]
Look = Callable[..., HostObservation]


@pytest.fixture
def deployed(
    engine: DockerEngine, environment: DockerEnvironment, service: Declared, proxy: str, image: Image
) -> Deployment:
    """A healthy deployment."""
    return carried_out(engine, order(image(), environment, service(), proxy))


@pytest.fixture
def run(image: Image) -> Iterator[Run]:
    """A function that runs a container with any options and returns its name."""
    made: list[str] = []

    def start(*options: str) -> str:
        made.append(f"cscm-test-stranger-{uuid4().hex[:8]}")
        docker("run", "--detach", "--name", made[-1], *options, image("hang"))
        return made[-1]

    yield start
    for name in made:
        docker("rm", "--force", "--volumes", name)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def look(engine: DockerEngine, environment: DockerEnvironment) -> Look:
    """A function that reads the host; `after` is the last event of an earlier reading, `agents` may reach the host."""

    def looked(*deployed: Deployment, after: int = 0, agents: tuple[str, ...] = ()) -> HostObservation:
        allowed = environment.model_copy(update={"agents": [{"image": each, "reason": "a test's"} for each in agents]})
        changed = DockerEnvironment.model_validate(allowed.model_dump())
        return read_host(engine, environment.host, deployed, [changed], after, now)

    return looked


def codes(observed: HostObservation, name: str) -> list[str]:
    return [each.code for one in observed.observations if one.name == name for each in one.deviations]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--privileged"], ["host.privileged"]),
        (["--cap-add", "SYS_ADMIN"], ["host.capabilities"]),
        (["--cap-add", "ALL"], ["host.capabilities"]),
        (["--volume", "/var/run/docker.sock:/x"], ["host.mount"]),
        (["--mount", "type=bind,source=/,target=/x,readonly"], ["host.mount"]),
        (["--device", "/dev/null"], ["host.device"]),
        (["--device-cgroup-rule", "b *:* rwm"], ["host.device"]),
        (["--pid", "host"], ["host.namespace"]),
        (["--network", "host"], ["host.namespace"]),
        (["--ipc", "host"], ["host.namespace"]),
        (["--uts", "host"], ["host.namespace"]),
        (["--security-opt", "seccomp=unconfined"], ["host.unconfined"]),
        (["--security-opt", "systempaths=unconfined"], ["host.unconfined"]),
        (["--label", "cscm.managed=true", "--label", "cscm.environment=staging", "--privileged"],
         ["host.privileged"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("-") else "",
)  # fmt: skip
def test_container_that_reaches_the_host_is_reported(
    engine: DockerEngine, run: Run, look: Look, options: list[str], found: list[str]
) -> None:
    """Labels do not hide it; only an image on the list of agents is accepted."""
    name = run(*options)

    assert set(codes(look(), name)) == set(found)
    assert codes(look(agents=(engine.inspect(name).image,)), name) == []


def test_volume_that_binds_a_host_directory_is_reported(run: Run, look: Look) -> None:
    """The engine lists it as a volume and not as a bind mount."""
    volume = f"cscm-test-{uuid4().hex[:8]}"
    docker("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/etc", volume)
    try:
        name = run("--volume", f"{volume}:/x")
        (observation,) = [one for one in look().observations if one.name == name]
        assert [(each.code, "/etc" in each.fact) for each in observation.deviations] == [("host.mount", True)]
        docker("rm", "--force", name)
    finally:
        docker("volume", "rm", "--force", volume)


@pytest.mark.parametrize("option", ["--network", "--pid", "--volumes-from"])
def test_container_that_shares_with_a_deployed_one_is_reported(
    engine: DockerEngine, deployed: Deployment, run: Run, look: Look, option: str
) -> None:
    """It can act inside of the deployed container, so even an accepted agent is reported."""
    of = deployed.reverse_proxy if option == "--volumes-from" else deployed.container
    name = run(option, of if option == "--volumes-from" else f"container:{of}")

    assert "host.shares" in codes(look(deployed, agents=(engine.inspect(name).image,)), name)


def test_deployed_and_ordinary_containers_are_not_reported(
    engine: DockerEngine, deployed: Deployment, run: Run, look: Look
) -> None:
    """A container without access to the host is no deviation."""
    name = run()

    reported = {one.container for one in look(deployed).observations}

    assert not reported & {engine.inspect(name).id, deployed.container, deployed.reverse_proxy}


def test_exec_into_a_container_is_reported_once_without_secrets(
    engine: DockerEngine, deployed: Deployment, look: Look, tmp_path: Path
) -> None:
    """Attaching and copying are reported too; environment variables and secret arguments are masked."""
    before = look().last
    inside = engine._api.exec_create(
        deployed.container, ["/subject", "--token=s3cret", "exit"], environment={"PASSWORD": "hunter2"}
    )
    engine._api.exec_start(inside["Id"], detach=True)
    docker("cp", f"{deployed.container}:/subject", str(tmp_path))
    engine._api.attach(deployed.container, stdout=True, stream=True)

    observed = eventually_known(lambda: look(deployed, after=before), deployed.container, 3)

    facts = {each.code: each.fact for each in observed.entered[deployed.container]}
    assert set(facts) == {"drift.exec", "drift.copied", "drift.attached"}
    assert "/subject --token=… exit" in facts["drift.exec"]
    assert not [fact for fact in facts.values() if "s3cret" in fact or "hunter2" in fact]
    assert deployed.container not in look(deployed, after=observed.last).entered


def test_exec_into_reverse_proxy_is_reported_for_its_application(
    engine: DockerEngine, deployed: Deployment, look: Look
) -> None:
    """The reverse proxy can read and answer every request."""
    before = look().last
    inside = engine._api.exec_create(deployed.reverse_proxy, ["haproxy", "-v"])
    engine._api.exec_start(inside["Id"], detach=True)

    observed = eventually_known(lambda: look(deployed, after=before), deployed.container, 1)

    (entry,) = observed.entered[deployed.container]
    assert entry.code == "drift.exec" and "the reverse proxy of" in entry.fact and "haproxy -v" in entry.fact


def test_health_check_of_an_image_is_disabled(
    engine: DockerEngine, environment: DockerEnvironment, service: Declared, proxy: str, image: Image
) -> None:
    """A frequent health check would displace other events from the engine's history."""
    often = image(health={"Test": ["CMD", "/subject", "exit"], "Interval": 1_000_000})

    deployed = carried_out(engine, order(often, environment, service(), proxy))

    assert engine._client.images.get(often).attrs["Config"]["Healthcheck"]["Interval"] == 1_000_000
    for container in (deployed.container, deployed.reverse_proxy):
        assert "Health" not in engine._api.inspect_container(container)["State"]


def eventually_known(look: Look, container: str, number: int) -> HostObservation:
    """Read the host until `number` events of a container are known; an event is visible in the next second."""
    found: list[HostObservation] = []

    def all_of_them() -> HostObservation | None:
        found.append(look())
        return found[-1] if len(found[-1].entered.get(container, ())) >= number else None

    observed: HostObservation = eventually(all_of_them, describe=lambda: found[-1].entered)
    return observed
