"""The flow `isolate`: quarantine before the lock and within it, then evidence, then the recovery."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from blocks.execution_ports import ExecutionPorts
from flows import isolate as module
from supply_chain.errors import SettingInvalid
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.isolation.collection import SealedBundle
from supply_chain.execution.isolation.record import IsolationRecord, Recovery
from tests.support.builders import DIGEST, NOON

PLACE = KubernetesEnvironment(
    name="production", target="kubernetes", cluster="c", namespace="n", applications={"hello": KubernetesPlacement()}
)
BUNDLE = SealedBundle(referrer=DIGEST, digest=DIGEST, key="arn:f", wrapped_key="", context={})
RECORD = IsolationRecord(
    id="00000001", environment="production", application="hello", digest=DIGEST, by="ann", reason="odd", since=NOON,
    isolated=NOON + timedelta(seconds=2.5), pods=(), allowing_policies=(), items=(), uncollected=(), bundle=BUNDLE,
    custody=(), recovery=Recovery(outcome="scaled-to-zero", why="no earlier image was deployed here"), at=NOON,
)  # fmt: skip


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the steps, and return what they did."""
    done: list[Any] = []
    record = SimpleNamespace(value=RECORD)

    async def quarantine(case: Any, ports: Any) -> Any:
        done.append(("quarantine", case.id, case.since))
        return case

    async def preserve(case: Any, ports: Any) -> Any:
        done.append("preserve")
        return record.value

    async def recover(case: Any, found: Any, place: Any, ports: Any) -> Any:
        done.append("recover")
        return found

    async def publish(key: str, markdown: str, description: str) -> None:
        done.append(description)

    async def notify(subject: str, page: str, block: str, once: str) -> None:
        done.append((subject, page))

    @asynccontextmanager
    async def lock(name: str) -> Any:
        done.append(name)
        yield ()

    ports = SimpleNamespace(load_isolation=AsyncMock(return_value=(PLACE, None)), workbench=SimpleNamespace(notify="x"))
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=ports))
    for name, stand_in in {
        "quarantine_step": quarantine, "preserve_step": preserve, "recover_step": recover, "notify": notify,
        "acreate_markdown_artifact": publish,
        "run_lock": lock, "read_clock": lambda: NOON,
    }.items():  # fmt: skip
        monkeypatch.setattr(module, name, stand_in)
    done.append(record)
    return done


async def run(application: str = "hello", **given: Any) -> Any:
    return await module.isolate.fn("production", application, "odd", "ann", **given)


async def test_isolation_does_not_wait_for_deployment_under_way(done: list[Any]) -> None:
    """A deployment may hold the lock for minutes; what it starts meanwhile is isolated too."""
    record = await run(since=NOON - timedelta(minutes=1))

    _, (first, case, since), lock, again, *rest, described, (subject, page) = done
    assert (first, lock, again) == ("quarantine", "deploy production hello", (first, case, since))
    assert rest == ["preserve", "recover"] and since == NOON - timedelta(minutes=1)
    assert (
        record == RECORD
        and subject == described
        and subject.startswith("hello in production was isolated: scaled to zero")
    )
    assert "2.5 s from the event" in page


async def test_time_is_measured_from_begin_of_run_without_event(done: list[Any]) -> None:
    """Somebody started it in Prefect's UI."""
    await run()

    assert done[1][2] == NOON


async def test_policy_that_lets_traffic_through_ends_run_as_exposed(done: list[Any]) -> None:
    """Nobody takes the application for isolated then."""
    done[0].value = RECORD.model_copy(update={"allowing_policies": ("NetworkPolicy all",)})

    state = await run()

    assert (state.name, state.message) == ("Exposed", "still allowed: NetworkPolicy all")


async def test_unknown_application_is_not_isolated(done: list[Any]) -> None:
    """A misspelled name is an error, and no isolation of nothing."""
    with pytest.raises(SettingInvalid, match="hallo"):
        await run("hallo")

    assert len(done) == 1
