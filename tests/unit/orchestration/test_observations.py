"""Events of what `monitor` and its watch observe."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestration import events, observations
from supply_chain.execution.observation import Deviation, Observation
from tests.support.builders import DIGEST, NOON


def observation(*codes: str, **content: Any) -> Observation:
    """Return an observation of something that nobody deployed."""
    deviations = tuple(Deviation(code=code, fact=content.pop("fact", "f"), remedy="r") for code in codes)
    made = {"environment": "staging", "application": "", "name": "stray", "container": "uid-1", "at": NOON, **content}
    return Observation(deviations=deviations, **made)


@pytest.fixture
def emitted(monkeypatch):
    """The events that were emitted; Prefect has each."""
    done: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: done.append(event))
    monkeypatch.setattr(observations, "is_recorded", lambda number: number in [each["id"] for each in done])
    return done


async def test_foreign_pod_is_one_event(emitted):
    """Each look sees it; its phase changes, and it stays the same pod."""
    for fact in ("it is Pending", "it is Running"):
        await observations.emit_drift(observation("drift.foreign", fact=fact))

    (event,) = emitted
    assert event["event"] == "cscm.environment.drifted"
    assert event["resource"] == {
        "prefect.resource.id": "cscm.environment.staging", "prefect.resource.name": "staging"
    }  # fmt: skip
    assert event["payload"] == {
        "environment": "staging", "what": "stray",
        "deviations": [{"code": "drift.foreign", "fact": "it is Pending", "remedy": "r"}],
    }  # fmt: skip


async def test_other_foreign_pod_and_other_deviation_are_events(emitted):
    """Another pod of the same name is another one."""
    first = observation("drift.foreign")
    for each in (
        first, observation("drift.foreign", container="uid-2"), observation("drift.foreign", environment="production"),
        observation("drift.quarantined"), first,
    ):  # fmt: skip
        await observations.emit_drift(each)

    assert len(emitted) == 4


async def test_changed_document_is_an_event_of_each_day(emitted):
    """Somebody may have changed it back meanwhile, and again."""
    for days in (0, 0, 1):
        await observations.emit_drift(observation("drift.unsigned", container="", at=NOON + timedelta(days)))

    assert len(emitted) == 2


async def test_drift_of_deployment_is_event_at_each_look(emitted):
    """The response knows what it said before."""
    drifted = observation("drift.object", application="hello", expected_digest=DIGEST)

    await observations.emit_drift(drifted)
    await observations.emit_drift(drifted)

    assert [each["event"] for each in emitted] == ["cscm.deployment.drifted"] * 2


async def test_observation_without_deviation_or_environment_is_no_event(emitted):
    """A container of no environment is on the page of what runs."""
    await observations.emit_drift(observation())
    await observations.emit_drift(observation("host.privileged", environment="", host="laptop"))

    assert emitted == []
