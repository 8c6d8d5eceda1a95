"""The monitor tasks: running deployments by their locks, and reports of entries into containers."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.variables import Variable

from blocks import ContainerHost
from orchestration import observations, steps
from orchestration import pagination as paging
from orchestration.locks import LockKind, lock_name, run_lock
from supply_chain.errors import ClusterUnavailable, DeclarationInvalid, SettingInvalid
from supply_chain.execution.deployment import DockerPlace
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.host import HostObservation
from supply_chain.execution.observation import Deviation, Observation
from supply_chain.policy.activation import PolicyState
from tasks import monitor
from tests.support.builders import DIGEST, NOON


@pytest.fixture
def environment(machine):
    """An environment name that no other test uses on the shared server."""
    return f"t{uuid4().hex[:8]}"


async def under_way(environment):
    return {about for about in await observations.find_deploying() if about[0].startswith(environment)}


async def test_deployment_counts_as_under_way_while_lock_is_held(environment):
    """The name of the application may contain a slash."""
    async with (
        run_lock(lock_name(LockKind.DEPLOY, environment, "team/hello")),
        run_lock(lock_name(LockKind.DEPLOY, environment, "shop")),
    ):
        during = await under_way(environment)

    assert during == {(environment, "team/hello"), (environment, "shop")}
    assert await under_way(environment) == set()


async def test_other_concurrency_limits_do_not_count_as_deployments(environment):
    """Other steps and other users of the server have limits too."""
    async with (
        run_lock(lock_name(LockKind.CURATE, environment, "hello")),
        run_lock(f"{LockKind.DEPLOY} {environment}"),
        run_lock(f"{LockKind.DEPLOY} {environment} hello again"),
    ):
        assert await under_way(environment) == set()


async def test_deployments_on_later_pages_are_found(environment, monkeypatch):
    """The server returns pages, and limits remain after their locks are released."""
    monkeypatch.setattr(paging, "PAGE", 2)
    async with get_client() as client:
        for number in range(5):
            await client.upsert_global_concurrency_limit_by_name(name=f"{environment} {number}", limit=1)
    first, last = "a", "z" * 8

    async with (
        run_lock(lock_name(LockKind.DEPLOY, environment, first)),
        run_lock(lock_name(LockKind.DEPLOY, environment, last)),
    ):
        assert await under_way(environment) == {(environment, first), (environment, last)}


@pytest.mark.parametrize(("remembered", "number"), [("1795798128939676031", 1795798128939676031), ("", 0), ("x", 0),
                                                    (None, 0), ({"a": 1}, 0)])  # fmt: skip
def test_invalid_last_event_number_is_read_as_0(remembered, number):
    """Everyone who may log in can change the variable."""
    assert monitor._number(remembered) == number


async def test_host_is_read_once_for_all_its_environments(environment, monkeypatch):
    """The read begins at the last known event."""
    asked = []

    def looked(engine, name, expected, places, after, now):
        asked.append((engine, name, [each.environment for each in expected], [each.name for each in places], after))
        return HostObservation(observations=(), entered={}, last=9)

    async def load(name):
        return SimpleNamespace(engine=lambda: f"engine of {name}")

    host = f"{environment}-host"
    await Variable.aset(f"events_{environment}_host", "7", overwrite=True)
    monkeypatch.setattr(monitor, "read_host", looked)
    monkeypatch.setattr(ContainerHost, "aload", load)
    places = [DockerEnvironment(name=name, host=of) for name, of in (("a", host), ("b", host), ("c", "other"))]
    expected: list[Any] = [SimpleNamespace(environment=name) for name in "abcd"]

    observed = await monitor._read_hosts(expected, places, ())

    assert asked == [
        ("engine of other", "other", ["c"], ["c"], 0),
        (f"engine of {host}", host, ["a", "b"], ["a", "b"], 7),
    ]
    assert list(observed) == ["other", host]


async def test_each_host_expects_deployments_of_unreadable_environments(environment, monkeypatch):
    """Their containers are no strangers, and accesses to them are found; those in clusters are on no host."""
    asked = []

    def looked(engine, name, expected, places, after, now):
        asked.append([(each.environment, each.container) for each in expected])
        return HostObservation(observations=(), entered={}, last=9)

    monkeypatch.setattr(monitor, "read_host", looked)
    monkeypatch.setattr(ContainerHost, "aload", AsyncMock())
    at = DockerPlace(reverse_proxy="2", proxy=DIGEST, address="127.0.0.1", port=8080)
    expected: list[Any] = [
        SimpleNamespace(environment=name, container=container, place=place)
        for name, container, place in (("a", "1", at), ("broken", "2", at), ("broken", "3", None), ("other", "4", at))
    ]

    await monitor._read_hosts(expected, [DockerEnvironment(name="a", host=f"{environment}-host")], {"broken"})

    assert asked == [[("broken", "2"), ("a", "1")]]


async def looked_at(
    environment,
    monkeypatch,
    deploying,
    unreachable="",
    *,
    active=True,
    unreadable=None,
    expected=(),
    entered=("1",),
    later=None,
):
    """Monitor a host after an entry into a container, and return the reports and the stored event number."""
    place = DockerEnvironment(name=environment, host=f"{environment}-host")
    entry = Deviation(code="drift.exec", fact="f", remedy="r")
    observed = Observation(
        at=NOON, environment=environment, application="hello", name="n", container="1", expected_digest=DIGEST
    )
    answers, reported = iter(deploying), list[Any]()
    readings = iter((expected, expected if later is None else later))

    async def hosts(expected, places, unreadable):
        assert unreadable == documents.unreadable
        return {place.host: HostObservation(observations=(), entered=dict.fromkeys(entered, (entry,)), last=9)}

    async def under_way():
        return next(answers)

    async def load_target(place, fetched):
        if place.name == unreachable:
            raise ClusterUnavailable("it does not answer\ngo on")
        return SimpleNamespace(monitor=lambda *_: (observed,))

    async def nothing(*_, **__):
        return None

    async def emit(observation):
        reported.append(observation)

    for name, stand_in in {
        "read_expected": lambda names, *_: [each for each in next(readings) if each.environment in names],
        "_read_hosts": hosts,
        "find_deploying": under_way, "continue_soaks": nothing, "publish_running": nothing,
        "emit_drift": emit,
    }.items():  # fmt: skip
        monkeypatch.setattr(monitor, name, stand_in)
    await Variable.aset(f"events_{environment}_host", "7", overwrite=True)
    places = [*([DockerEnvironment(name=unreachable)] if unreachable else []), place]
    state = PolicyState(active=active, why="not as signed by ann")
    documents = EnvironmentDocuments(tuple(places), unreadable or {})
    workbench = SimpleNamespace(environment_documents=lambda: documents, environment_state=lambda place: state)
    ports: Any = SimpleNamespace(
        evidence=None, repositories=None, registry=None, workbench=workbench, load_target=load_target
    )

    with pytest.raises(ClusterUnavailable) if unreachable else nullcontext():
        await monitor.monitor_step.fn(None, ports)

    return reported, await Variable.aget(f"events_{environment}_host")


async def test_container_entry_is_reported_and_not_read_again(environment, monkeypatch):
    """A deployment to another environment does not matter."""
    elsewhere = {("elsewhere", "hello")}
    (reported,), remembered = await looked_at(environment, monkeypatch, [elsewhere, elsewhere])

    assert [each.code for each in reported.deviations] == ["drift.exec"]
    assert remembered == "9"


async def test_unreachable_cluster_does_not_hide_other_environments(environment, monkeypatch):
    """They are reported and remembered, and the run still fails."""
    monkeypatch.setattr(steps, "task_run", SimpleNamespace(run_count=4))
    (reported,), remembered = await looked_at(environment, monkeypatch, [set(), set()], unreachable="cluster")

    assert (reported.environment, remembered) == (environment, "9")


async def test_unreachable_cluster_is_retried_before_it_is_reported(environment, monkeypatch):
    """It may answer a moment later; nothing is reported twice."""
    monkeypatch.setattr(steps, "task_run", SimpleNamespace(run_count=1))

    assert await looked_at(environment, monkeypatch, [set(), set()], unreachable="cluster") == ([], "7")


async def test_deployment_by_break_glass_is_judged_again(environment, monkeypatch):
    """Only such ones are, with the requirements of their environment."""
    place, asked = DockerEnvironment(name=environment), list[Any]()
    refused = Deviation(code="drift.refused", fact="f", remedy="r")

    def judge(expected, judge):
        asked.append((expected.container, judge.read("ref"), judge.policy(), judge.evidence))
        return refused if expected.container == "1" else None

    monkeypatch.setattr(monitor, "judge_again", judge)
    expected: list[Any] = [
        SimpleNamespace(container=each, break_glass=glass) for each, glass in (("1", "b"), ("2", "b"), ("3", None))
    ]
    workbench = SimpleNamespace(policies=lambda: SimpleNamespace(deploy="the policy"))
    ports: Any = SimpleNamespace(
        evidence="the evidence", workbench=workbench, deploy_facts=lambda ref, environment: (ref, environment)
    )

    assert monitor._judge_again(expected, place, ports) == {"1": (refused,)}
    assert asked == [(each, ("ref", place), "the policy", "the evidence") for each in "12"]
    assert monitor._judge_again(expected[2:], place, None) == {}  # type: ignore[arg-type]


async def test_monitor_reports_unsigned_environment(environment, monkeypatch):
    """Its document may name another host, cluster or namespace than the one where it runs."""
    (unsigned, reported), _ = await looked_at(environment, monkeypatch, [set(), set()], active=False)

    assert [each.code for each in unsigned.deviations] == ["drift.unsigned"]
    assert "not as signed by ann" in unsigned.deviations[0].fact and unsigned.environment == environment
    assert [each.code for each in reported.deviations] == ["drift.exec"]


async def test_monitor_reports_invalid_environment_and_observes_others(environment, monkeypatch):
    """The step ends without an error, so that the watch goes on; the flow fails at its end."""
    unreadable = {"broken": DeclarationInvalid("its soak is wrong\ncorrect it")}
    (invalid, reported), remembered = await looked_at(environment, monkeypatch, [set(), set()], unreadable=unreadable)

    assert [each.code for each in invalid.deviations] == ["drift.invalid"] and invalid.environment == "broken"
    assert "its soak is wrong" in invalid.deviations[0].fact and invalid.expected_digest == ""
    assert [each.code for each in reported.deviations] == ["drift.exec"] and remembered == "9"


async def test_entry_into_deployment_of_unreadable_environment_is_reported(environment, monkeypatch):
    """Nobody looks at that deployment, and the next look begins after the entry."""
    lost: list[Any] = [
        SimpleNamespace(
            environment="broken", application="shop", name=f"shop-{number}", workload="", container=number,
            url="http://127.0.0.1:8080/", digest=DIGEST,
        )
        for number in ("8", "9")
    ]  # fmt: skip
    unreadable = {"broken": SettingInvalid("it has another name\ncorrect it")}
    reported, _ = await looked_at(
        environment, monkeypatch, [set(), set()], unreadable=unreadable, expected=lost, entered=("9",)
    )

    _, _, entered = reported
    assert (entered.environment, entered.name, entered.status) == ("broken", "shop-9", "unknown")
    assert [each.code for each in entered.deviations] == ["drift.exec"]


async def test_refused_deployment_is_reported(environment, monkeypatch):
    """As an event, like every other deviation."""
    refused = Deviation(code="drift.refused", fact="f", remedy="r")
    monkeypatch.setattr(monitor, "_judge_again", lambda expected, place, ports: {"1": (refused,)})
    (reported,), _ = await looked_at(environment, monkeypatch, [set(), set()])

    assert [each.code for each in reported.deviations] == ["drift.refused", "drift.exec"]


async def test_deviation_from_replaced_record_is_not_reported(environment, monkeypatch):
    """A deployment may begin and end within the look."""
    now_running = SimpleNamespace(environment=environment, application="hello", container="2")

    assert await looked_at(environment, monkeypatch, [set(), set()], later=(now_running,)) == ([], "7")


@pytest.mark.parametrize(("before", "after"), [(True, True), (False, True), (True, False)])
async def test_container_entry_during_deployment_is_not_yet_reported(environment, monkeypatch, before, after):
    """This holds if the deployment begins or ends meanwhile, because the record may be outdated."""
    own = {(environment, "hello")}
    reported, remembered = await looked_at(
        environment, monkeypatch, [own if each else set() for each in (before, after)]
    )

    assert reported == []
    assert remembered == "7", "the same events are read again"
