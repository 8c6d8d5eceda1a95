"""find_isolating_step: an event isolates nothing that signed evidence or an observation does not confirm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from orchestration import steps
from supply_chain.errors import ClusterUnavailable, LockBusy, SettingInvalid
from supply_chain.evidence.image_status import locate_image_status
from supply_chain.evidence.statement import LIFECYCLE
from supply_chain.execution.deployment import Expected, KubernetesPlace
from supply_chain.execution.environment import DockerEnvironment, KubernetesEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.isolation.settings import ResponseSettings
from supply_chain.model.container import make_profile
from supply_chain.model.declaration import Probe, Runtime
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tasks import isolate
from tests.support.builders import NOON, OTHER
from tests.support.observations import DRIFT, look
from tests.support.world import World

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
EXPECTED = Expected(
    environment="production", application="hello", digest=REF.digest, container="c1", name="hello",
    place=KubernetesPlace(cluster="c", namespace="n", documents=()), probe=Probe(port=8080), settings={},
    profile=make_profile(Runtime()), configuration=OTHER,
)  # fmt: skip
BLOCKED, DRIFTED = "cscm.image.blocked", "cscm.deployment.drifted"


def lock(before: Any = lambda: None) -> Any:
    """Return a stand-in for `run_lock`, which calls a function before the lock is held."""

    @asynccontextmanager
    async def run_lock(name: str, wait: float) -> AsyncIterator[None]:
        assert name == "deploy production hello" and wait == isolate.DEPLOYMENT
        before()
        yield

    return run_lock


@pytest.fixture
def ports(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ports with one environment that isolates, in which the image runs as it should."""
    settings = ResponseSettings(isolate=("image.blocked", "drift.files"))
    place = KubernetesEnvironment(
        name="production", target="kubernetes", cluster="c", namespace="n", response=settings
    )  # fmt: skip
    target = SimpleNamespace(observe=lambda expected: [look(0)])
    monkeypatch.setattr(isolate, "read_expected", lambda *_: (EXPECTED,))
    monkeypatch.setattr(isolate, "run_lock", lock())
    return SimpleNamespace(
        workbench=SimpleNamespace(
            environment_documents=lambda: EnvironmentDocuments((DockerEnvironment(name="staging"), place), {}),
            environment_state=lambda _: SimpleNamespace(active=True),
        ),
        repositories=None, registry=None, evidence=world.store(TierName.EXECUTION),
        load_target=AsyncMock(return_value=target), target=target, place=place,
    )  # fmt: skip


async def find(ports: Any, event: str) -> list[str]:
    found = await isolate.find_isolating_step.fn(REF, event, ports)
    assert found.unread == []
    return [reason for _, reason in found.deployments]


async def test_event_without_signed_block_isolates_nothing(ports: Any, world: World) -> None:
    """Anybody who can emit events could claim one."""
    assert await find(ports, BLOCKED) == []

    predicate = {"act": "block", "by": "ann", "reason": "a key in it", "at": NOON.isoformat()}
    world.store(TierName.LIFECYCLE).attach(locate_image_status(REF), LIFECYCLE, predicate, NOON)

    assert [reason.partition(" on ")[0] for reason in await find(ports, BLOCKED)] == ["image.blocked: by ann"]


async def test_drift_event_isolates_only_confirmed_deviation(ports: Any) -> None:
    """It may be over by now."""
    assert await find(ports, DRIFTED) == []

    ports.target.observe = lambda expected: [look(0, deviations=(DRIFT,))]

    assert await find(ports, DRIFTED) == ["drift.files: f"]


async def test_container_replaced_by_running_deployment_is_not_isolated(
    ports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it serves, the record names the image before, from which everything of it differs."""
    ports.target.observe = lambda expected: [look(0, deviations=(DRIFT,))]
    other = EXPECTED.model_copy(update={"digest": OTHER, "container": "c2"})

    def deployed() -> None:
        monkeypatch.setattr(isolate, "read_expected", lambda *_: (other,))

    monkeypatch.setattr(isolate, "run_lock", lock(deployed))

    assert await find(ports, DRIFTED) == []


async def test_isolation_waits_only_if_deviation_may_be_temporary(
    ports: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a block: it is signed."""
    monkeypatch.setattr(isolate, "run_lock", lambda *_: pytest.fail("it waits"))
    assert await find(ports, DRIFTED) == []

    predicate = {"act": "block", "by": "ann", "reason": "a key in it", "at": NOON.isoformat()}
    world.store(TierName.LIFECYCLE).attach(locate_image_status(REF), LIFECYCLE, predicate, NOON)
    assert len(await find(ports, BLOCKED)) == 1


async def test_need_for_isolation_is_unknown_if_deployment_takes_too_long(
    ports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next event of the deviation decides."""
    ports.target.observe = lambda expected: [look(0, deviations=(DRIFT,))]

    def busy() -> None:
        raise LockBusy("Another run held it.\nLook in the UI.")

    monkeypatch.setattr(isolate, "run_lock", lock(busy))

    found = await isolate.find_isolating_step.fn(REF, DRIFTED, ports)

    assert found.deployments == [] and "production is unknown: Another run held it." in found.unread[0]


@pytest.mark.parametrize("lacking", ["settings", "signature"])
async def test_inactive_or_unconfigured_environment_isolates_nothing(
    ports: Any, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Whoever can write the file could end a deployment; and no evidence is read for nothing."""
    ports.target.observe = lambda expected: [look(0, deviations=(DRIFT,))]
    monkeypatch.setattr(isolate, "read_expected", lambda *_: pytest.fail("nothing is isolated"))
    if lacking == "signature":
        ports.workbench.environment_state = lambda _: SimpleNamespace(active=False)
    else:
        other = ports.place.model_copy(update={"response": ResponseSettings()})
        ports.workbench.environment_documents = lambda: EnvironmentDocuments((other,), {})

    assert await find(ports, DRIFTED) == []


@pytest.mark.parametrize("run", [1, 4])
async def test_environment_that_cannot_be_read_prevents_no_isolation(
    ports: Any, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    """A cluster that does not answer is tried again; one whose document is invalid has to be corrected."""
    ports.target.observe = lambda expected: [look(0, deviations=(DRIFT,))]
    other = ports.place.model_copy(update={"name": "other"})
    bad = {"bad": SettingInvalid("its soak is wrong\ncorrect it")}
    ports.workbench.environment_documents = lambda: EnvironmentDocuments((other, ports.place), bad)
    expected = (EXPECTED.model_copy(update={"environment": "other"}), EXPECTED)
    monkeypatch.setattr(
        isolate, "read_expected", lambda names, *_: [each for each in expected if each.environment in names]
    )
    monkeypatch.setattr(steps, "task_run", SimpleNamespace(run_count=run))

    async def load(place: KubernetesEnvironment) -> Any:
        if place is other:
            raise ClusterUnavailable("it does not answer\nwait")
        return ports.target

    ports.load_target = load
    if run == 1:
        with pytest.raises(ClusterUnavailable):
            await isolate.find_isolating_step.fn(REF, DRIFTED, ports)
        return

    found = await isolate.find_isolating_step.fn(REF, DRIFTED, ports)

    assert [each.environment for each, _ in found.deployments] == ["production"]
    assert found.unread == [
        f"whether something is to be isolated in {name} is unknown: {why}"
        for name, why in (
            ("bad", f"its soak is wrong — correct it [{SettingInvalid.code}]"),
            ("other", f"it does not answer — wait [{ClusterUnavailable.code}]"),
        )
    ]
