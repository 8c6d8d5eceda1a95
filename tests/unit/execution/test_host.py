"""What reaches a host from containers that nobody deployed, and who went into those that the chain deployed."""

from datetime import timedelta

import pytest

from supply_chain.execution.environment import Environment
from supply_chain.execution.host import (
    UNWATCHED,
    drifts,
    entered,
    judge_accesses,
    of_deployments,
    read_host,
    with_entries,
    without_values,
)
from supply_chain.execution.monitor import Deviation, Observation
from supply_chain.model.container import Action, ContainerSpec, History, HostAccess, LocalImage, Profile, Volume
from tests.support.memory_engine import MemoryEngine
from tests.unit.execution.test_monitor import EXPECTED, NOON

AGENT, OTHER = ("sha256:" + digit * 64 for digit in "de")
STRANGER, OWN, FRONT = "9" * 64, EXPECTED.container, EXPECTED.front
OURS = {OWN: EXPECTED.name, FRONT: "the front of hello in staging"}


def access(**reached):
    return HostAccess(**{"container": STRANGER, "name": "agent", "image": OTHER, "status": "running", **reached})


def codes(found):
    return [deviation.code for _, deviations in found for deviation in deviations]


@pytest.mark.parametrize(
    ("reached", "code", "told"),
    [
        ({"privileged": True}, "host.privileged", "is privileged"),
        ({"capabilities": ("SYS_ADMIN", "SYS_PTRACE")}, "host.capabilities", "SYS_ADMIN, SYS_PTRACE"),
        ({"paths": ("/var/run/docker.sock",)}, "host.mount", "/var/run/docker.sock"),
        ({"devices": ("/dev/kmsg",)}, "host.device", "/dev/kmsg"),
        ({"host_namespaces": ("pid",)}, "host.namespace", "shares with the host: pid"),
        ({"unconfined": ("seccomp=unconfined",)}, "host.unconfined", "seccomp=unconfined"),
    ],
)
def test_stranger_that_reaches_the_host_is_reported_and_an_agent_is_not(reached, code, told):
    """By its image's digest: the same name is anybody's."""
    found = judge_accesses([access(**reached)], OURS, ())

    assert codes(found) == [code]
    assert told in found[0][1][0].fact and "agent, which nobody deployed" in found[0][1][0].fact
    assert judge_accesses([access(**reached, image=AGENT)], OURS, {AGENT}) == ()
    assert judge_accesses([access(**reached, container=OWN)], OURS, ()) == (), "what is wrong with it is drift"


@pytest.mark.parametrize("of", [OWN, EXPECTED.name])
def test_stranger_that_shares_with_a_deployed_container_is_reported_though_it_is_an_agent(of):
    """A namespace, by its id or its name, or a volume: whoever has them is in it."""
    own = access(container=FRONT, name="front", volumes=("front-files",))
    strangers = [access(shared={"network": of}, image=AGENT), access(volumes=("front-files",), image=AGENT)]

    for stranger in strangers:
        assert codes(judge_accesses([own, stranger], OURS, {AGENT})) == ["host.shares"]


def test_container_that_reaches_nothing_is_not_reported():
    """Nor one that shares with another stranger."""
    assert judge_accesses([access(), access(shared={"pid": "8" * 64}, volumes=("its-own",))], OURS, ()) == ()


def action(kind="exec_start", command="sh", at=0, container=OWN):
    return Action(at=NOON + timedelta(seconds=at), container=container, kind=kind, command=command)


def went(*actions):
    return entered(History(actions=actions), OURS, {FRONT})


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
def test_who_went_into_a_deployed_container_is_reported(kind, code):
    """With when; into another container anybody may go."""
    found = went(action(kind, ""), action(kind, "", container=STRANGER))

    assert list(found) == [OWN]
    ((only,),) = found.values()
    assert only.code == code and EXPECTED.name in only.fact and "2026-11-24 12:00:00 UTC" in only.fact


def test_command_is_reported_once_with_how_often_and_without_values():
    """What is assigned in it may be a secret."""
    command = "env TOKEN=s3cret tool --password=hunter2 run"
    found = went(action(command=command), action(command=command, at=60), action(command="id"))[OWN]

    assert [each.fact.partition(": ")[2] for each in found] == ["env TOKEN=… tool --password=… run", "id"]
    assert "(2 times, last 2026-11-24 12:01:00 UTC)" in found[0].fact
    assert len(without_values("x" * 999)) == 201


def test_what_the_chain_does_itself_is_not_reported():
    """A deployment writes its front's file."""
    assert went(action("extract-to-dir", "", container=FRONT), action("archive-path", "", container=FRONT)) == {}
    assert list(went(action(container=FRONT))) == [FRONT]


def observation(**changes):
    return Observation(**{
        "at": NOON, "environment": "staging", "application": "hello", "name": "n", "container": OWN, "wanted": AGENT,
        **changes,
    })  # fmt: skip


def test_entry_is_a_deviation_of_the_deployment():
    """Beside those that it has."""
    first, entry = (Deviation(code=code, fact="f", remedy="r") for code in ("drift.files", "drift.exec"))
    others = [observation(wanted=""), observation(container=STRANGER)]

    own, *rest = with_entries([observation(deviations=(first,)), *others], {OWN: (entry,)})

    assert own.deviations == (first, entry) and rest == others


def test_entry_into_a_front_is_a_deviation_of_each_application_behind_it():
    """An entry into a container concerns no other."""
    first, second = (Deviation(code=code, fact="f", remedy="r") for code in ("drift.exec", "drift.attached"))
    others = [EXPECTED.model_copy(update={"container": "3" * 64}), EXPECTED.model_copy(update={"container": "4" * 64})]
    others[1] = others[1].model_copy(update={"front": "5" * 64})

    found = of_deployments([EXPECTED, *others], {FRONT: (first,), OWN: (second,)})

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
    return read_host(engine, "laptop", expected, [Environment(name="staging", **environment)], after, lambda: NOON)


def test_host_is_looked_at_whole(engine):
    """Whatever labels its containers have."""
    own, front = started(engine, "own"), started(engine, "front")
    started(engine, "stranger", privileged=True)
    deployed = EXPECTED.model_copy(update={"container": own, "front": front})
    engine.done = [(7, action(container=own)), (9, action("attach", "", container=front))]

    seen = look(engine, [deployed])

    ((only,),) = (seen.observations,)
    assert (only.host, only.environment, only.name, only.application) == ("laptop", "", "stranger", "")
    assert [each.code for each in only.deviations] == ["host.privileged"]
    assert {container: [each.code for each in found] for container, found in seen.entered.items()} == {
        own: ["drift.exec", "drift.attached"],
    }  # fmt: skip
    assert "the front of hello in staging" in seen.entered[own][1].fact
    reported, *_ = with_entries([observation(container=own)], seen.entered)
    assert [each.code for each in reported.deviations] == ["drift.exec", "drift.attached"]
    assert seen.last == 9
    assert look(engine, [deployed], after=9).entered == {}, "reported once"
    assert look(engine, [deployed], agents=[{"image": OTHER, "reason": "backup"}]).observations == ()


def test_it_is_said_where_the_engine_does_not_know_what_was_done(engine):
    """That is no drift: nobody knows of any."""
    engine.done = [(9, action(container=STRANGER))]

    seen = look(engine, after=8)

    assert [each.code for one in seen.observations for each in one.deviations] == [UNWATCHED]
    assert drifts(seen.observations) == ()
    assert look(engine, after=9).observations == ()


def test_deployed_container_that_is_gone_is_no_error(engine):
    """It is missing, which is reported as that."""
    assert look(engine, [EXPECTED]).entered == {}


def test_drifts_are_all_other_codes():
    """Each once, sorted."""
    both = tuple(Deviation(code=code, fact="f", remedy="r") for code in ("host.mount", "drift.exec", UNWATCHED))

    assert drifts([observation(deviations=both), observation(deviations=both)]) == ("drift.exec", "host.mount")
