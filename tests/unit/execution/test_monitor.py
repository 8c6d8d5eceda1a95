"""monitor: deviations of containers from their deployment records, and observations of all containers."""

import http.server
import threading
from dataclasses import dataclass, field

import pytest

from supply_chain.errors import CheckIncomplete, EngineUnavailable
from supply_chain.execution.deployment import DockerPlace, Expected
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.monitor import DeploymentState, compare, drop_deploying, monitor
from supply_chain.execution.observation import Observation
from supply_chain.execution.reverse_proxy import PROFILE
from supply_chain.model.container import (
    APPLICATION,
    ENVIRONMENT,
    Change,
    Container,
    LocalImage,
    Published,
    Volume,
    make_container_name,
)
from supply_chain.model.image import shorten_digest
from tests.support.memory_engine import MemoryEngine, Program
from tests.unit.execution.expected import DIGEST, EXPECTED, HARDENED, NOON, OTHER, PROXY

CONTAINER = Container(
    id="1" * 64,
    name=EXPECTED.name,
    image=DIGEST,
    labels={},
    status="running",
    pid=7,
    exit_code=0,
    out_of_memory=False,
    error="",
    restarts=0,
    restart=True,
    created_at=NOON,
    started_at=NOON,
    finished_at=None,
    profile=HARDENED,
    environment={"PATH": "/bin", "GREETING": "hi"},
    command=("/app",),
    networks={"cscm-staging": "172.18.0.2"},
    published=(),
)
REVERSE_PROXY = CONTAINER.model_copy(
    update={
        "id": "2" * 64,
        "image": PROXY,
        "profile": PROFILE,
        "published": (Published(address="127.0.0.1", port=18080, container_port=8080),),
    }
)
IMAGE = LocalImage(
    digest=DIGEST, environment={"PATH": "/bin", "GREETING": "hello"}, command=("/app",), volumes=(), labels={}
)
WELL = DeploymentState(container=CONTAINER, image=IMAGE, changes=(), reverse_proxy=REVERSE_PROXY, trouble="")


def codes(state: DeploymentState) -> list[str]:
    return [deviation.code for deviation in compare(EXPECTED, state)]


def with_container(**changes) -> DeploymentState:
    return DeploymentState(CONTAINER.model_copy(update=changes), IMAGE, (), REVERSE_PROXY, "")


def with_reverse_proxy(**changes) -> DeploymentState:
    return DeploymentState(CONTAINER, IMAGE, (), REVERSE_PROXY.model_copy(update=changes), "")


def test_matching_container_has_no_deviation():
    """The environment may override a variable of the image."""
    assert codes(WELL) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status": "exited", "exit_code": 1}, "drift.stopped"),
        ({"status": "paused"}, "drift.stopped"),
        ({"status": "restarting"}, "drift.stopped"),
        ({"restarts": 1}, "drift.restarts"),
        ({"image": OTHER}, "drift.digest"),
        ({"environment": {"PATH": "/bin", "GREETING": "hello"}}, "drift.configuration"),
        ({"environment": {"PATH": "/bin"}}, "drift.configuration"),
        ({"environment": {"PATH": "/bin", "GREETING": "hi", "LD_PRELOAD": "/x"}}, "drift.configuration"),
        ({"command": ("/bin/sh",)}, "drift.command"),
        ({"networks": {"cscm-staging": "", "bridge": ""}}, "drift.network"),
        ({"published": REVERSE_PROXY.published}, "drift.network"),
    ],
)
def test_each_container_change_gives_its_deviation(changes, code):
    """One change gives exactly one deviation."""
    assert codes(with_container(**changes)) == [code]


@pytest.mark.parametrize(
    "change",
    [
        {"read_only": False},
        {"user": "0:0"},
        {"capabilities": ("SYS_ADMIN",)},
        {"dropped": ()},
        {"no_new_privileges": False},
        {"memory": 0},
        {"pids": 0},
        {"cpu": 0.0},
        {"privileged": True},
        {"host_namespaces": ("pid",)},
        {"mounts": ("/var/run/docker.sock",)},
        {"devices": ("/dev/kmsg",)},
        {"security_options": ("seccomp=unconfined",)},
        {"writable": ()},
    ],
)
def test_each_weakened_profile_setting_is_reported_by_name(change):
    """The fact names the changed setting."""
    (deviation,) = compare(EXPECTED, with_container(profile=HARDENED.model_copy(update=change)))

    assert deviation.code == "drift.profile"
    assert next(iter(change)) in deviation.fact


def test_files_changed_outside_writable_paths_are_drift():
    """Files in declared writable paths are ignored."""
    changes = (Change(kind="added", path="/tmp/fine"), Change(kind="added", path="/usr/bin/nc"))

    (deviation,) = compare(EXPECTED, DeploymentState(CONTAINER, IMAGE, changes, REVERSE_PROXY, ""))

    assert deviation.code == "drift.files"
    assert "/usr/bin/nc (added)" in deviation.fact
    assert "fine" not in deviation.fact


@pytest.mark.parametrize(
    "state",
    [
        DeploymentState(CONTAINER, IMAGE, (), None, ""),
        with_reverse_proxy(status="exited"),
        with_reverse_proxy(image=OTHER),
        with_reverse_proxy(profile=HARDENED),
        with_reverse_proxy(published=()),
    ],
)
def test_changed_reverse_proxy_is_drift(state):
    """It may be missing, stopped, another image, or have other rights or another address."""
    assert codes(state) == ["drift.reverse-proxy"]


def test_all_deviations_are_reported_at_once():
    """One deviation does not hide another."""
    gone = DeploymentState(
        container=None, image=None, changes=(), reverse_proxy=None, trouble="no answer from port 18080"
    )

    assert codes(gone) == ["drift.missing", "drift.reverse-proxy", "drift.unhealthy"]


def test_deviation_omits_values_of_settings():
    """Facts go to logs and events, so they only name variables."""
    state = with_container(environment={"PATH": "/bin", "GREETING": "hunter2"})

    (deviation,) = compare(EXPECTED, state)
    assert "GREETING" in deviation.fact and "hunter2" not in deviation.fact


def test_each_deviation_has_remedy():
    """An operator learns what to do."""
    gone = DeploymentState(container=None, image=None, changes=(), reverse_proxy=None, trouble="x")

    assert all(deviation.remedy for deviation in compare(EXPECTED, gone))


STAGING, PRODUCTION = DockerEnvironment(name="staging"), DockerEnvironment(name="production")


class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    """The port of an HTTP server that answers 200 on every loopback address."""
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Well) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@dataclass
class Host:
    """An engine with healthy deployments, each at its own address."""

    port: int
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    expected: list[Expected] = field(default_factory=list)

    def deployed(self, application="hello", environment=STAGING, program=None, port=None):
        """Add a deployment that matches its record."""
        labels = {ENVIRONMENT: environment.name, APPLICATION: application}
        where = {"address": f"127.0.0.{len(self.expected) + 1}", "port": self.port}
        image = self.engine.add(environment={"PATH": "/bin", "GREETING": "hello"}, program=program)
        container = self.engine.container(
            f"{environment.name}-{application}-1",
            image,
            labels=labels,
            profile=HARDENED,
            environment={"GREETING": "hi"},
            network=environment.network,
        )
        reverse_proxy = self.engine.container(
            f"{environment.name}-{application}-proxy",
            labels=labels,
            profile=PROFILE,
            volumes=(Volume(name=application, path="/config"),),
            network=environment.edge,
            published=(Published(**where, container_port=8080),),
        )
        for each in (container, reverse_proxy):
            self.engine.start(each.id)
        about = {"environment": environment.name, "application": application, "digest": image}
        if port is not None:
            where["port"] = port
        place = DockerPlace(reverse_proxy=reverse_proxy.id, proxy=reverse_proxy.image, **where)
        ids = {"container": container.id, "name": container.name, "place": place}
        self.expected.append(EXPECTED.model_copy(update={**about, **ids}))
        return self.expected[-1]

    def observe(self, *environments, application=None):
        return monitor(self.engine, self.expected, environments or (STAGING, PRODUCTION), lambda: NOON, application)


@pytest.fixture
def host(port):
    return Host(port)


def codes_by_name(observations):
    return [(each.name, [deviation.code for deviation in each.deviations]) for each in observations]


def test_monitor_observes_each_healthy_deployment(host):
    """The observation has the running digest, the start time and the address."""
    one, other = host.deployed(), host.deployed("shop", PRODUCTION)

    first, second = host.observe()

    running = host.engine.inspect(one.container)
    assert codes_by_name((first, second)) == [(one.name, []), (other.name, [])]
    assert first == Observation(
        at=NOON,
        environment="staging",
        application="hello",
        name=one.name,
        container=one.container,
        address=f"http://127.0.0.1:{host.port}/",
        expected_digest=one.digest,
        running=one.digest,
        status="running",
        healthy=True,
        started_at=running.started_at,
    )
    assert (second.environment, second.application, second.running) == ("production", "shop", other.digest)


def test_monitor_reports_ended_container_with_exit_code(host):
    """It counts as not running even if the address answers."""
    host.deployed(program=Program(status=3))

    (observation,) = host.observe()

    assert codes_by_name([observation]) == [("staging-hello-1", ["drift.stopped"])]
    assert (observation.status, observation.exit_code, observation.running) == ("exited", 3, "")
    assert observation.healthy


def test_monitor_reports_missing_container_and_reverse_proxy(host):
    """An address that does not answer is unhealthy."""
    deployed = host.deployed(port=1)
    for container in (deployed.container, deployed.reverse_proxy):
        host.engine.remove(container)

    (observation,) = host.observe()

    assert codes_by_name([observation]) == [
        (deployed.name, ["drift.missing", "drift.reverse-proxy", "drift.unhealthy"])
    ]
    assert (observation.status, observation.exit_code, observation.running) == ("missing", None, "")
    assert (observation.container, observation.expected_digest) == (deployed.container, deployed.digest)
    assert not observation.healthy


def test_monitor_reports_drift_if_container_has_too_many_changes(host, monkeypatch):
    """The other containers are still observed."""
    host.deployed()
    changes = host.engine.changes

    def too_many(container):
        if host.engine.inspect(container).name == "staging-hello-1":
            raise CheckIncomplete("too many\nlook")
        return changes(container)

    monkeypatch.setattr(host.engine, "changes", too_many)
    host.deployed("shop")

    assert codes_by_name(host.observe()) == [("staging-hello-1", ["drift.files"]), ("staging-shop-1", [])]


def test_monitor_reports_files_changed_in_container(host):
    """The files are compared with those of the image."""
    host.deployed(program=Program(changes=(Change(kind="added", path="/usr/bin/nc"),)))
    host.deployed("shop")

    assert codes_by_name(host.observe()) == [("staging-hello-1", ["drift.files"]), ("staging-shop-1", [])]


def test_monitor_skips_command_check_if_image_was_removed(host):
    """The container still runs, but its original command is unknown."""
    deployed = host.deployed()
    changed = {"command": ("/bin/sh",), "restarts": 2}
    host.engine.held[deployed.container] = host.engine.inspect(deployed.container).model_copy(update=changed)
    (before,) = host.observe()
    del host.engine.images[deployed.digest]
    (after,) = host.observe()

    assert codes_by_name([before, after]) == [
        (deployed.name, ["drift.restarts", "drift.command"]),
        (deployed.name, ["drift.restarts"]),
    ]
    assert before.restarts == 2


def test_monitor_reports_container_removed_meanwhile_as_missing(host):
    """A deployment may be retiring it, so this is no error."""
    deployed = host.deployed()

    class Going(MemoryEngine):
        def changes(self, container):
            self.remove(container)
            return super().changes(container)

    host.engine = Going(**vars(host.engine))

    assert codes_by_name(host.observe()) == [(deployed.name, ["drift.missing"])]


@pytest.mark.parametrize(
    "spec",
    [
        {"labels": {ENVIRONMENT: "staging"}},
        {"network": STAGING.network},
        {"network": STAGING.edge},
        {"labels": {ENVIRONMENT: "staging", APPLICATION: "hello"}, "network": STAGING.network},
    ],
    ids=["label", "network", "edge", "all of them"],
)
def test_monitor_reports_foreign_container_once(host, spec):
    """Labels and networks are two ways to find the same container."""
    host.deployed()
    stranger = host.engine.container("nobody's", **spec)

    _, observation = host.observe()

    assert codes_by_name([observation]) == [("nobody's", ["drift.foreign"])]
    assert (observation.environment, observation.application, observation.expected_digest) == ("staging", "", "")
    assert (observation.container, observation.status, observation.running) == (stranger.id, "created", "")
    host.engine.start("nobody's")
    assert host.observe()[1].running == stranger.image


def test_monitor_ignores_containers_outside_given_environments(host):
    """Containers of other environments or of none are ignored."""
    host.deployed()
    host.engine.container("elsewhere", labels={ENVIRONMENT: "production"}, network=PRODUCTION.network)
    host.engine.container("unrelated")

    assert [each.name for each in host.observe(STAGING)] == ["staging-hello-1"]
    assert [each.name for each in host.observe()] == ["staging-hello-1", "elsewhere"]


def test_monitor_of_one_application_reports_foreign_by_label(host):
    """Containers of other applications are left out, because they may be in deployment."""
    host.deployed()
    for name, application in (("left", "hello"), ("another's", "shop")):
        host.engine.container(name, labels={ENVIRONMENT: "staging", APPLICATION: application})
    host.engine.container("nobody's", network=STAGING.network)

    assert [each.name for each in host.observe(application="hello")] == ["staging-hello-1", "left"]


def test_monitor_ignores_containers_of_other_supply_chain(host):
    """Another supply chain on the same engine may use the same environment names."""
    other = host.engine.owned("other")
    other.create_network(STAGING.network, {}, internal=True)
    other.container("theirs", labels={ENVIRONMENT: "staging"}, network=STAGING.network)
    host.engine = host.engine.owned("ours")

    assert host.observe() == ()


def test_monitor_fails_if_engine_is_unavailable():
    """Without the engine, nothing is known about the containers."""

    class Away(MemoryEngine):
        def inspect(self, container):
            raise EngineUnavailable("away\nstart it")

    with pytest.raises(EngineUnavailable):
        monitor(Away(), [EXPECTED], [STAGING], lambda: NOON)


def observed(name, environment="staging", application=""):
    return Observation(at=NOON, environment=environment, application=application, name=name, container="1" * 64)


@pytest.mark.parametrize(
    ("under_way", "left"),
    [
        (set(), ["own", "stranger", "of parts"]),
        ({("staging", "team/hello")}, []),
        ({("production", "team/hello")}, ["own", "stranger", "of parts"]),
        ({("staging", "hello")}, ["own", "stranger", "of parts"]),
        ({("staging", "other"), ("staging", "team/hello")}, []),
    ],
    ids=["nothing", "it", "it elsewhere", "another", "it and another"],
)
def test_settled_leaves_out_application_being_deployed(under_way, left):
    """Its previous deployment and its new, not yet recorded containers are left out."""
    name = make_container_name("staging", "team/hello", DIGEST, 2)
    observations = {
        "own": observed("staging-any-name", application="team/hello"),
        "stranger": observed(name),
        "of parts": observed(name.replace(shorten_digest(DIGEST), "proxy")),
    }

    assert drop_deploying(tuple(observations.values()), under_way) == tuple(observations[each] for each in left)


def test_settled_leaves_out_new_pods_of_application_being_deployed():
    """Their ReplicaSet is not recorded yet."""
    own, elsewhere = observed("hello-5d4f8c7b9-x2x4z"), observed("hello-5d4f8c7b9-x2x4z", "production")
    other = observed("hello-world")

    assert drop_deploying((own, elsewhere, other), {("staging", "hello")}) == (elsewhere, other)


def test_settled_keeps_observations_of_other_deployments():
    """Kept are other applications, other environments and containers with similar names."""
    others = (
        observed("staging-hello-1", application="shop"),
        observed("production-hello-1", "production", "hello"),
        observed("production-hello-1", "production"),
        observed("staging-hello2-1"),
        observed("staging-hello-world-aaaaaaaaaaaa-1"),
        observed("nobody's"),
    )

    assert drop_deploying(others, {("staging", "hello")}) == others
