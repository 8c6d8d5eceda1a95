"""`compare`: in what a container differs from the one that was deployed."""

from datetime import UTC, datetime

import pytest

from supply_chain.app import Probe, Runtime
from supply_chain.container import (
    Change,
    Container,
    LocalImage,
    Published,
    configuration_digest,
    profile,
)
from supply_chain.execution.deploy import Expected
from supply_chain.execution.front import PROFILE
from supply_chain.execution.monitor import Seen, compare

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
