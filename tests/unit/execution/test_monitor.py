"""In what a container differs from the one that was deployed, and what is seen of all that are there."""

import http.server
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from supply_chain.errors import CheckNotMade, EngineUnavailable
from supply_chain.execution.deploy import Expected
from supply_chain.execution.environment import Environment
from supply_chain.execution.monitor import Observation, Seen, compare, monitor, settled
from supply_chain.execution.reverse_proxy import PROFILE
from supply_chain.model.container import (
    APPLICATION,
    ENVIRONMENT,
    Change,
    Container,
    LocalImage,
    Published,
    Volume,
    configuration_digest,
    container_name,
    profile,
)
from supply_chain.model.image import short
from supply_chain.model.manifest import Probe, Runtime
from tests.support.memory_engine import MemoryEngine, Program

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGEST, OTHER, PROXY = ("sha256:" + digit * 64 for digit in "abc")
HARDENED = profile(Runtime(writable=("/tmp",)))
EXPECTED = Expected(
    environment="staging",
    application="hello",
    digest=DIGEST,
    container="1" * 64,
    name="staging-hello-aaaaaaaaaaaa-1",
    front="2" * 64,
    proxy=PROXY,
    address="127.0.0.1",
    port=18080,
    probe=Probe(port=8080),
    settings={"GREETING": "hi"},
    profile=HARDENED,
    configuration=configuration_digest({"GREETING": "hi"}, HARDENED),
)
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
FRONT = CONTAINER.model_copy(
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
WELL = Seen(container=CONTAINER, image=IMAGE, changes=(), front=FRONT, trouble="")


def codes(seen: Seen) -> list[str]:
    return [deviation.code for deviation in compare(EXPECTED, seen)]


def with_container(**changes) -> Seen:
    return Seen(CONTAINER.model_copy(update=changes), IMAGE, (), FRONT, "")


def with_front(**changes) -> Seen:
    return Seen(CONTAINER, IMAGE, (), FRONT.model_copy(update=changes), "")


def test_what_is_as_it_should_be_deviates_in_nothing():
    """The same everything, and a variable of the image that the environment overrides."""
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
        ({"published": FRONT.published}, "drift.network"),
    ],
)
def test_each_change_of_the_container_is_named(changes, code):
    """One change, one deviation, of its own kind."""
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
def test_each_part_of_the_profile_counts(change):
    """Whatever the profile is weakened in is told by name."""
    (deviation,) = compare(EXPECTED, with_container(profile=HARDENED.model_copy(update=change)))

    assert deviation.code == "drift.profile"
    assert next(iter(change)) in deviation.fact


def test_files_outside_the_writable_paths_are_drift():
    """What lies in memory, where it is declared, is not."""
    changes = (Change(kind="added", path="/tmp/fine"), Change(kind="added", path="/usr/bin/nc"))

    (deviation,) = compare(EXPECTED, Seen(CONTAINER, IMAGE, changes, FRONT, ""))

    assert deviation.code == "drift.files"
    assert "/usr/bin/nc (added)" in deviation.fact
    assert "fine" not in deviation.fact


@pytest.mark.parametrize(
    "seen",
    [
        Seen(CONTAINER, IMAGE, (), None, ""),
        with_front(status="exited"),
        with_front(image=OTHER),
        with_front(profile=HARDENED),
        with_front(published=()),
    ],
)
def test_a_front_that_is_not_as_it_was_set_up_is_drift(seen):
    """Gone, stopped, another program, other rights, another address."""
    assert codes(seen) == ["drift.front"]


def test_everything_is_told_at_once():
    """A deviation does not hide another one."""
    gone = Seen(container=None, image=None, changes=(), front=None, trouble="no answer from port 18080")

    assert codes(gone) == ["drift.missing", "drift.front", "drift.unhealthy"]


def test_values_of_settings_are_not_told():
    """A fact goes to logs and events; it names variables only."""
    seen = with_container(environment={"PATH": "/bin", "GREETING": "hunter2"})

    assert all("hunter2" not in deviation.fact for deviation in compare(EXPECTED, seen))


def test_every_deviation_says_what_to_do():
    """An operator is not left with a fact."""
    gone = Seen(container=None, image=None, changes=(), front=None, trouble="x")

    assert all(deviation.remedy for deviation in compare(EXPECTED, gone))


STAGING, PRODUCTION = Environment(name="staging"), Environment(name="production")


class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    """At which all is well, on every address of the loopback."""
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Well) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@dataclass
class Host:
    """An engine, and what was deployed to it, each with an address of its own at which all is well."""

    port: int
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    expected: list[Expected] = field(default_factory=list)

    def deployed(self, application="hello", environment=STAGING, program=None, **changes):
        """A deployment that is as it should be."""
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
        front = self.engine.container(
            f"{environment.name}-{application}-front",
            labels=labels,
            profile=PROFILE,
            volumes=(Volume(name=application, path="/config"),),
            network=environment.edge,
            published=(Published(**where, container_port=8080),),
        )
        for each in (container, front):
            self.engine.start(each.id)
        about = {"environment": environment.name, "application": application, "digest": image, **where}
        ids = {"container": container.id, "name": container.name, "front": front.id, "proxy": front.image}
        self.expected.append(EXPECTED.model_copy(update={**about, **ids, **changes}))
        return self.expected[-1]

    def seen(self, *environments, application=None):
        return monitor(self.engine, self.expected, environments or (STAGING, PRODUCTION), lambda: NOON, application)


@pytest.fixture
def host(port):
    return Host(port)


def told(observations):
    return [(each.name, [deviation.code for deviation in each.deviations]) for each in observations]


def test_each_deployment_is_observed_as_it_is(host):
    """All is well: what runs, since when, and where it is reached."""
    one, other = host.deployed(), host.deployed("shop", PRODUCTION)

    first, second = host.seen()

    running = host.engine.inspect(one.container)
    assert told((first, second)) == [(one.name, []), (other.name, [])]
    assert first == Observation(
        at=NOON,
        environment="staging",
        application="hello",
        name=one.name,
        container=one.container,
        address=f"http://127.0.0.1:{host.port}/",
        wanted=one.digest,
        running=one.digest,
        status="running",
        healthy=True,
        started_at=running.started_at,
    )
    assert (second.environment, second.application, second.running) == ("production", "shop", other.digest)


def test_one_that_has_ended_is_told_with_its_status(host):
    """Nothing runs then, whatever the address says."""
    host.deployed(program=Program(status=3))

    (observation,) = host.seen()

    assert told([observation]) == [("staging-hello-1", ["drift.stopped"])]
    assert (observation.status, observation.exit_code, observation.running) == ("exited", 3, "")
    assert observation.healthy


def test_one_that_is_gone_is_missing(host):
    """So is a front; and an address that does not answer is not well."""
    deployed = host.deployed(port=1)
    for container in (deployed.container, deployed.front):
        host.engine.remove(container)

    (observation,) = host.seen()

    assert told([observation]) == [(deployed.name, ["drift.missing", "drift.front", "drift.unhealthy"])]
    assert (observation.status, observation.exit_code, observation.running) == ("missing", None, "")
    assert (observation.container, observation.wanted) == (deployed.container, deployed.digest)
    assert not observation.healthy


def test_changes_that_are_too_many_are_drift(host, monkeypatch):
    """Of that container; the others are looked at all the same."""
    host.deployed()
    changes = host.engine.changes

    def too_many(container):
        if host.engine.inspect(container).name == "staging-hello-1":
            raise CheckNotMade("too many\nlook")
        return changes(container)

    monkeypatch.setattr(host.engine, "changes", too_many)
    host.deployed("shop")

    assert told(host.seen()) == [("staging-hello-1", ["drift.files"]), ("staging-shop-1", [])]


def test_what_changed_in_it_is_seen(host):
    """The files are the container's own, held against its image."""
    host.deployed(program=Program(changes=(Change(kind="added", path="/usr/bin/nc"),)))
    host.deployed("shop")

    assert told(host.seen()) == [("staging-hello-1", ["drift.files"]), ("staging-shop-1", [])]


def test_a_container_is_held_against_its_image_while_there_is_one(host):
    """Without it, it runs on, and of its command nothing is known any more."""
    deployed = host.deployed()
    changed = {"command": ("/bin/sh",), "restarts": 2}
    host.engine.held[deployed.container] = host.engine.inspect(deployed.container).model_copy(update=changed)
    (before,) = host.seen()
    del host.engine.images[deployed.digest]
    (after,) = host.seen()

    assert told([before, after]) == [
        (deployed.name, ["drift.restarts", "drift.command"]),
        (deployed.name, ["drift.restarts"]),
    ]
    assert before.restarts == 2


def test_one_that_goes_while_it_is_looked_at_is_missing(host):
    """A deployment may be retiring it; that is no failure."""
    deployed = host.deployed()

    class Going(MemoryEngine):
        def changes(self, container):
            self.remove(container)
            return super().changes(container)

    host.engine = Going(**vars(host.engine))

    assert told(host.seen()) == [(deployed.name, ["drift.missing"])]


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
def test_a_container_that_nobody_deployed_is_seen_once(host, spec):
    """However it came to be there, and whether it runs."""
    host.deployed()
    stranger = host.engine.container("nobody's", **spec)

    _, observation = host.seen()

    assert told([observation]) == [("nobody's", ["drift.foreign"])]
    assert (observation.environment, observation.application, observation.wanted) == ("staging", "", "")
    assert (observation.container, observation.status, observation.running) == (stranger.id, "created", "")
    host.engine.start("nobody's")
    assert host.seen()[1].running == stranger.image


def test_what_belongs_to_no_environment_that_is_looked_at_is_nobodys_business(host):
    """Neither another environment's, nor what has to do with none."""
    host.deployed()
    host.engine.container("elsewhere", labels={ENVIRONMENT: "production"}, network=PRODUCTION.network)
    host.engine.container("unrelated")

    assert [each.name for each in host.seen(STAGING)] == ["staging-hello-1"]
    assert [each.name for each in host.seen()] == ["staging-hello-1", "elsewhere"]


def test_who_looks_at_one_application_sees_the_strangers_that_carry_its_name(host):
    """Whoever deploys it; the others are left to the others, who may be deploying too."""
    host.deployed()
    for name, application in (("left", "hello"), ("another's", "shop")):
        host.engine.container(name, labels={ENVIRONMENT: "staging", APPLICATION: application})
    host.engine.container("nobody's", network=STAGING.network)

    assert [each.name for each in host.seen(application="hello")] == ["staging-hello-1", "left"]


def test_what_another_supply_chain_has_on_the_engine_is_no_stranger(host):
    """It calls its environments as it likes."""
    other = host.engine.owned("other")
    other.create_network(STAGING.network, {}, internal=True)
    other.container("theirs", labels={ENVIRONMENT: "staging"}, network=STAGING.network)
    host.engine = host.engine.owned("ours")

    assert host.seen() == ()


def test_an_engine_that_is_away_is_no_observation():
    """Nothing is known then, least of all that all is well."""

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
def test_what_is_being_deployed_says_nothing_yet(under_way, left):
    """Neither the deployment before, nor the new container, which is nobody's until it is recorded."""
    name = container_name("staging", "team/hello", DIGEST, 2)
    seen = {
        "own": observed("staging-any-name", application="team/hello"),
        "stranger": observed(name),
        "of parts": observed(name.replace(short(DIGEST), "front")),
    }

    assert settled(tuple(seen.values()), under_way) == tuple(seen[each] for each in left)


def test_what_is_not_being_deployed_counts_meanwhile():
    """Another application, the same elsewhere, a stranger of another name, and one that only begins like it."""
    others = (
        observed("staging-hello-1", application="shop"),
        observed("production-hello-1", "production", "hello"),
        observed("production-hello-1", "production"),
        observed("staging-hello2-1"),
        observed("staging-hello-world-aaaaaaaaaaaa-1"),
        observed("nobody's"),
    )

    assert settled(others, {("staging", "hello")}) == others
