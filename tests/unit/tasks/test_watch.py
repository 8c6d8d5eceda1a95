"""The task `watch`: what it reports between two looks, and what it leaves to the next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from supply_chain.errors import ClusterRefused, ClusterUnavailable, GitUnavailable, SettingInvalid, SupplyChainError
from supply_chain.execution.environment import DockerEnvironment, KubernetesEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.observation import Deviation, Observation
from tasks import watch as module
from tests.support.builders import DIGEST, NOON

PLACE = KubernetesEnvironment(name="staging", target="kubernetes", cluster="c", namespace="shop")
BATCH = frozenset({("Pod", "hello-1abc-00000")})


def workbench_of(*places: DockerEnvironment | KubernetesEnvironment) -> SimpleNamespace:
    """Return a workbench with these environments, and one whose document cannot be read."""
    documents = EnvironmentDocuments(places, {"broken": SettingInvalid("it is bad\ncorrect it")})
    return SimpleNamespace(environment_documents=lambda: documents, environment=lambda _: places[0])


def observation(*codes: str, name: str = "hello", application: str = "hello") -> Observation:
    """Return an observation with these deviations."""
    deviations = tuple(Deviation(code=code, fact="f", remedy="r") for code in codes)
    return Observation(
        at=NOON, environment="staging", application=application, name=name, container="1", expected_digest=DIGEST,
        deviations=deviations,
    )  # fmt: skip


class Clock:
    """A clock of a watch that ends when its batches are used up."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def monotonic(self) -> float:
        return 0.0 if self.batches else 100.0

    def wait(self, seconds: float) -> frozenset[tuple[str, str]]:
        batch: frozenset[tuple[str, str]] | Exception = self.batches.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return batch

    def __enter__(self) -> Any:
        return SimpleNamespace(wait=self.wait, state=None)

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def watched(monkeypatch):
    """A function that watches so many batches; returns what was reported, judged and published."""

    async def run(batches, judged, *, looked=(), deploying=(), read=()):
        clock, results, about = Clock([frozenset(), *batches]), iter(judged), list[Any]()
        done = SimpleNamespace(judged=about, soaked=[], published=[], emitted=[], reported=None)

        def judge(expected, changed, state):
            about.append((expected, set(changed)))
            found = next(results)
            if isinstance(found, Exception):
                raise found
            return found

        target = SimpleNamespace(watch=lambda: clock, judge_changes=judge)
        records, locks = iter(["records", *read]), iter(deploying)

        async def soak(observations, place, ports):
            done.soaked += observations

        async def publish(observations):
            done.published.append([(each.name, [d.code for d in each.deviations]) for each in observations])

        async def emit(observation):
            done.emitted.append(observation)

        async def find_deploying():
            return next(locks, set())

        for name, stand_in in {
            "read_expected": lambda *_: next(records), "find_deploying": find_deploying, "continue_soaks": soak,
            "publish_running": publish, "emit_drift": emit,
            "time": SimpleNamespace(monotonic=clock.monotonic), "SETTLE": 0,
        }.items():  # fmt: skip
            monkeypatch.setattr(module, name, stand_in)
        places = (DockerEnvironment(name="host"), PLACE)
        ports: Any = SimpleNamespace(
            workbench=workbench_of(*places), load_namespace=AsyncMock(return_value=target),
            repositories=None, registry=None, evidence=None,
        )  # fmt: skip
        done.reported = await module.watch_step.fn(None, ports, looked, 50.0)
        return done

    return run


async def test_new_deviation_is_reported_once_and_at_once(watched):
    """By an event and on the page; it interrupts the soak."""
    ok, drifted = observation(), observation("drift.object")

    done = await watched(
        [BATCH, BATCH], [[drifted], [drifted], [drifted]], looked=[ok, observation(name="other")], read=["current"]
    )

    assert done.reported == (drifted,)
    assert done.emitted == done.soaked == [drifted]
    assert done.published == [[("hello", ["drift.object"]), ("other", [])]]


@pytest.mark.parametrize(
    ("looked", "found"), [(["drift.object"], ["drift.object"]), ([], ["drift.unhealthy"]), ([], [])], ids=str
)
async def test_known_and_transient_deviations_are_left_to_next_look(watched, looked, found):
    """A pod that moves to another node is replaced in a moment."""
    done = await watched([BATCH], [[observation(*found)]], looked=[observation(*looked)])

    assert (done.reported, done.published, done.soaked) == ((), [], [])


async def test_deviation_caused_by_later_deployment_is_not_reported(watched):
    """Records are read again before anything is reported."""
    done = await watched([BATCH], [[observation("drift.digest")], [observation()]], read=["current"])

    assert [expected for expected, _ in done.judged] == ["records", "current"]
    assert done.reported == ()


async def test_change_during_deployment_is_judged_after_it(watched):
    """The pods of a deployment exist before its record."""
    own, drifted = {("staging", "hello")}, observation("drift.pod")

    done = await watched([BATCH, frozenset()], [[drifted], [drifted], [drifted]], deploying=[own], read=["current"])

    assert done.reported == (drifted,)
    assert [changed for _, changed in done.judged] == [set(BATCH)] * 3


@pytest.mark.parametrize("error", [ClusterUnavailable("x\ny"), GitUnavailable("x\ny")], ids=type)
async def test_change_is_judged_once_cluster_or_repository_answers_again(watched, error: SupplyChainError):
    """What happened meanwhile is not forgotten."""
    drifted = observation("drift.pod")

    done = await watched([BATCH, frozenset()], [error, [drifted], [drifted]], read=["current"])

    assert done.reported == (drifted,)


async def test_refused_watch_fails_the_step(watched):
    """Nobody should believe that it watches."""
    with pytest.raises(ClusterRefused):
        await watched([ClusterRefused("pods is forbidden\nno")], [])


async def test_watch_step_without_time_or_clusters_ends_at_once():
    """A person who looks does not want to wait."""
    ports: Any = SimpleNamespace(workbench=workbench_of(PLACE))
    docker: Any = SimpleNamespace(workbench=workbench_of(DockerEnvironment(name="host")))

    assert await module.watch_step.fn(None, ports, (), 0) == ()
    assert await module.watch_step.fn("staging", ports, (), 0) == ()
    assert await module.watch_step.fn(None, docker, (), 50) == ()
