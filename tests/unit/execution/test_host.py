"""read_host: containers with host access that nobody deployed, and entries into deployed containers."""

from datetime import timedelta

import pytest

from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.host import (
    UNWATCHED,
    add_entries,
    find_entries,
    judge_accesses,
    list_drifts,
    read_host,
    redact_values,
    select_deployment_entries,
)
from supply_chain.execution.observation import Deviation, Observation
from supply_chain.model.container import Action, ContainerSpec, History, HostAccess, LocalImage, Profile, Volume
from tests.support.memory_engine import MemoryEngine
from tests.unit.execution.expected import EXPECTED, NOON, PLACE

AGENT, OTHER = ("sha256:" + digit * 64 for digit in "de")
STRANGER, OWN, REVERSE_PROXY = "9" * 64, EXPECTED.container, EXPECTED.reverse_proxy
OURS = {OWN: EXPECTED.name, REVERSE_PROXY: "the reverse proxy of hello in staging"}


def access(**reached):
    return HostAccess(**{"container": STRANGER, "name": "agent", "image": OTHER, "status": "running", **reached})


def codes(found):
    return [deviation.code for _, deviations in found for deviation in deviations]


@pytest.mark.parametrize(
    ("reached", "code", "text"),
    [
        ({"privileged": True}, "host.privileged", "is privileged"),
        ({"capabilities": ("SYS_ADMIN", "SYS_PTRACE")}, "host.capabilities", "SYS_ADMIN, SYS_PTRACE"),
        ({"paths": ("/var/run/docker.sock",)}, "host.mount", "/var/run/docker.sock"),
        ({"devices": ("/dev/kmsg",)}, "host.device", "/dev/kmsg"),
        ({"host_namespaces": ("pid",)}, "host.namespace", "shares with the host: pid"),
        ({"unconfined": ("seccomp=unconfined",)}, "host.unconfined", "seccomp=unconfined"),
    ],
)
def test_host_access_is_reported_unless_image_is_listed_agent(reached, code, text):
    """An agent is identified by the digest of its image, because anyone can use its name."""
    found = judge_accesses([access(**reached)], OURS, ())

    assert codes(found) == [code]
    assert text in found[0][1][0].fact and "agent, which nobody deployed" in found[0][1][0].fact
    assert judge_accesses([access(**reached, image=AGENT)], OURS, {AGENT}) == ()
    assert judge_accesses([access(**reached, container=OWN)], OURS, ()) == (), "what is wrong with it is drift"


@pytest.mark.parametrize("of", [OWN, EXPECTED.name])
def test_container_sharing_with_deployed_one_is_reported_even_if_agent(of):
    """A shared namespace or volume gives access to the deployed container."""
    own = access(container=REVERSE_PROXY, name="reverse_proxy", volumes=("proxy-files",))
    strangers = [access(shared={"network": of}, image=AGENT), access(volumes=("proxy-files",), image=AGENT)]

    for stranger in strangers:
        assert codes(judge_accesses([own, stranger], OURS, {AGENT})) == ["host.shares"]


def test_container_without_host_access_is_not_reported():
    """Sharing with another unknown container is not reported either."""
    assert judge_accesses([access(), access(shared={"pid": "8" * 64}, volumes=("its-own",))], OURS, ()) == ()


def action(kind="exec_start", command="sh", at=0, container=OWN):
    return Action(at=NOON + timedelta(seconds=at), container=container, kind=kind, command=command)


def went(*actions):
    return find_entries(History(actions=actions), OURS, {REVERSE_PROXY})


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("exec_start", "drift.exec"),
        ("attach", "drift.attached"),
        ("extract-to-dir", "drift.written"),
        ("archive-path", "drift.copied"),
        ("export", "drift.copied"),
        ("commit", "drift.copied"),
    ],
)
def test_entry_into_deployed_container_is_reported(kind, code):
    """The report has the time; entries into other containers are ignored."""
    found = went(action(kind, ""), action(kind, "", container=STRANGER))

    assert list(found) == [OWN]
    ((only,),) = found.values()
    assert only.code == code and EXPECTED.name in only.fact and "2026-11-24 12:00:00 UTC" in only.fact


def test_entry_command_is_reported_once_with_count_without_values():
    """Values that are assigned in a command may be secrets."""
    command = "env TOKEN=s3cret tool --password=hunter2 run"
    found = went(action(command=command), action(command=command, at=60), action(command="id"))[OWN]

    assert [each.fact.partition(": ")[2] for each in found] == ["env TOKEN=… tool --password=… run", "id"]
    assert "(2 times, last 2026-11-24 12:01:00 UTC)" in found[0].fact
    assert len(redact_values("x" * 999)) == 201


def test_actions_of_the_chain_itself_are_not_reported():
    """A deployment writes the configuration of its reverse proxy."""
    assert (
        went(action("extract-to-dir", "", container=REVERSE_PROXY), action("archive-path", "", container=REVERSE_PROXY))
        == {}
    )
    assert list(went(action(container=REVERSE_PROXY))) == [REVERSE_PROXY]


def observation(**changes):
    return Observation(**{
        "at": NOON, "environment": "staging", "application": "hello", "name": "n", "container": OWN,
        "expected_digest": AGENT, **changes,
    })  # fmt: skip


def test_entry_is_added_to_deviations_of_deployment():
    """The existing deviations are kept."""
    first, entry = (Deviation(code=code, fact="f", remedy="r") for code in ("drift.files", "drift.exec"))
    others = [observation(expected_digest=""), observation(container=STRANGER)]

    own, *rest = add_entries([observation(deviations=(first,)), *others], {OWN: (entry,)})

    assert own.deviations == (first, entry) and rest == others


def test_entry_into_reverse_proxy_concerns_each_application_behind_it():
    """An entry into a container concerns only its own deployment."""
    first, second = (Deviation(code=code, fact="f", remedy="r") for code in ("drift.exec", "drift.attached"))
    others = [EXPECTED.model_copy(update={"container": "3" * 64}), EXPECTED.model_copy(update={"container": "4" * 64})]
    others[1] = others[1].model_copy(update={"place": PLACE.model_copy(update={"reverse_proxy": "5" * 64})})

    found = select_deployment_entries([EXPECTED, *others], {REVERSE_PROXY: (first,), OWN: (second,)})

    assert found == {OWN: (second, first), "3" * 64: (first,)}


@pytest.fixture
def engine():
    image = LocalImage(digest=OTHER, environment={}, command=("run",), volumes=(), labels={})
    return MemoryEngine(images={OTHER: image})


def started(engine, name, **reached):
    engine.reached[name] = reached
    profile = Profile(user="1:1", memory=1, pids=1)
    spec = ContainerSpec(image=OTHER, name=name, labels={"cscm.environment": "staging"}, profile=profile,
                         volumes=(Volume(name=f"{name}-files", path="/files"),))  # fmt: skip
    return engine.create(spec)


def look(engine, expected=(), after=0, **environment):
    return read_host(
        engine, "laptop", expected, [DockerEnvironment(name="staging", **environment)], after, lambda: NOON
    )


def test_read_host_covers_all_containers(engine):
    """Labels of the containers do not matter."""
    own, reverse_proxy = started(engine, "own"), started(engine, "reverse_proxy")
    started(engine, "stranger", privileged=True)
    deployed = EXPECTED.model_copy(
        update={"container": own, "place": PLACE.model_copy(update={"reverse_proxy": reverse_proxy})}
    )
    engine.done = [(7, action(container=own)), (9, action("attach", "", container=reverse_proxy))]

    host = look(engine, [deployed])

    ((only,),) = (host.observations,)
    assert (only.host, only.environment, only.name, only.application) == ("laptop", "", "stranger", "")
    assert [each.code for each in only.deviations] == ["host.privileged"]
    assert {container: [each.code for each in found] for container, found in host.entered.items()} == {
        own: ["drift.exec", "drift.attached"],
    }  # fmt: skip
    assert "the reverse proxy of hello in staging" in host.entered[own][1].fact
    reported, *_ = add_entries([observation(container=own)], host.entered)
    assert [each.code for each in reported.deviations] == ["drift.exec", "drift.attached"]
    assert host.last == 9
    assert look(engine, [deployed], after=9).entered == {}, "reported once"
    assert look(engine, [deployed], agents=[{"image": OTHER, "reason": "backup"}]).observations == ()


def test_read_host_reports_lost_engine_history_without_drift(engine):
    """Actions may have been missed, but none is known."""
    engine.done = [(9, action(container=STRANGER))]

    host = look(engine, after=8)

    assert [each.code for one in host.observations for each in one.deviations] == [UNWATCHED]
    assert list_drifts(host.observations) == ()
    assert look(engine, after=9).observations == ()


def test_read_host_ignores_missing_deployed_container(engine):
    """The monitor reports it as missing."""
    assert look(engine, [EXPECTED]).entered == {}


def test_drifts_are_sorted_unique_codes_without_unwatched():
    """Each code occurs once."""
    both = tuple(Deviation(code=code, fact="f", remedy="r") for code in ("host.mount", "drift.exec", UNWATCHED))

    assert list_drifts([observation(deviations=both), observation(deviations=both)]) == ("drift.exec", "host.mount")
