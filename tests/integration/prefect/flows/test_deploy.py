"""The flow `deploy`: what contradicts another environment gets nothing, and what follows a refusal of the gate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest
from prefect.client.schemas.objects import State

from blocks.execution_ports import ExecutionPorts
from flows import deploy as flows
from flows.deploy import deploy
from supply_chain.errors import SettingInvalid
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
REFUSED = Refused(
    image=REF, gate=Gate.DEPLOY, policy="sha256:" + "b" * 64,
    reasons=(Reason(code="image.blocked", fact="it is blocked", remedy="Wait."),),
)  # fmt: skip


async def test_refusal_undoes_remains_of_killed_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever applies a repository would deploy it otherwise; nothing of the image is deployed."""
    done: list[object] = []

    async def gate(name: str, work: object) -> tuple[Refused, None]:
        return REFUSED, None

    place: Any = SimpleNamespace(name="staging")
    target: Any = SimpleNamespace(undo_unrecorded=done.append)
    reporter: Any = SimpleNamespace(add=lambda **_: None, gate=gate)
    monkeypatch.setattr(flows, "deploy_gate_step", lambda *_: None)

    result = await flows._deploy(REF, place, target, cast(Any, None), reporter, False)

    assert cast(State, result).name == "Refused" and done == [REF]


async def test_refusal_during_the_deployment_ends_the_run_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an answer, which the report shows: the run does not fail."""
    decided: list[object] = []

    async def gate(name: str, work: object) -> tuple[object, object]:
        return object(), SimpleNamespace(source=None, report=None, checks=())

    async def step(name: str, work: object, say: Any) -> Refused:
        assert "an earlier deployment, if any, still runs" in say(REFUSED)
        return REFUSED

    place: Any = SimpleNamespace(name="staging")
    reporter: Any = SimpleNamespace(add=lambda **_: None, gate=gate, step=step, add_verdict=decided.append)
    monkeypatch.setattr(flows, "deploy_gate_step", lambda *_: None)
    monkeypatch.setattr(flows, "deploy_step", lambda *_: None)

    result = await flows._deploy(REF, place, cast(Any, None), cast(Any, None), reporter, False)

    assert cast(State, result).name == "Refused" and decided == [REFUSED]


async def test_contradictory_environment_gets_no_deployment(machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both can be read, and each would stop what the other one serves at their common address."""
    ports: Any = Mock()
    ports.workbench.valid_environment = Mock(side_effect=SettingInvalid("two share a port\nchange one"))
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=ports))

    with pytest.raises(SettingInvalid, match="two share a port"):
        await deploy(image="sha256:" + "a" * 64, environment="staging")

    assert not ports.load_target.called
