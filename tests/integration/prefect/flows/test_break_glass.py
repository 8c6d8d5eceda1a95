"""break-glass: signed by its person and notified before it deploys."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from blocks.execution_ports import ExecutionPorts
from flows import break_glass as flows
from flows.break_glass import break_glass
from flows.image_decisions import block, hold, unblock, unhold
from orchestration import personal_keys
from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.execution.environment import DockerEnvironment, DockerPlacement
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused
from tests.support.builders import NOON

IMAGE = "curated/hello@sha256:" + "a" * 64
GIVEN: dict[str, Any] = {
    "image": IMAGE, "environment": "production", "by": "ann", "reason": "outage", "key": "ann.key",
    "expires": NOON + timedelta(hours=1),
}  # fmt: skip


@pytest.fixture
def done(machine: object, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the steps, and return what they did."""
    done: list[str] = []

    async def sign(ref: ImageRef, use: Any, ports: Any, key: str) -> Any:
        done.append(f"signed {use} with {key}, of {use.at:%H:%M}: {', '.join(use.overrides)}")
        return use

    async def notify(subject: str, page: str, block: str) -> None:
        assert "cscm approve aaaaaaaaaaaa --environment production --deny" in page.replace("\\", "")
        done.append(f"notified {block}: {subject}")

    async def deploy(image: str, environment: str) -> str:
        done.append(f"deployed {image} to {environment}")
        return "the deployment"

    ports = Mock()
    ports.workbench.notify = "log/operators"
    ports.find_overridable = lambda ref, place: ("approval.missing",)
    ports.workbench.valid_environment = lambda name: DockerEnvironment(
        name=name, applications={"hello": DockerPlacement(port=8080)}
    )
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=ports))
    monkeypatch.setattr(flows, "find_stored", Mock(return_value=ImageRef.parse(IMAGE)))
    for name, stand_in in {
        "sign_break_glass_step": sign,
        "notify": notify,
        "deploy": deploy,
        "read_clock": lambda: NOON,
    }.items():
        monkeypatch.setattr(flows, name, stand_in)
    return done


async def test_break_glass_is_signed_and_notified_before_the_deployment(done: list[str]) -> None:
    """A deployment that fails is notified too: until its end it can be repeated."""
    assert await break_glass(**GIVEN) == "the deployment"

    assert done == [
        "signed break-glass for production by ann until 2026-11-24 13:00 UTC: outage with ann.key, of 12:00: "
        "approval.missing",
        "notified log/operators: break-glass for production: hello aaaaaaaaaaaa, by ann",
        f"deployed {IMAGE} to production",
    ]


async def test_break_glass_that_cannot_override_every_reason_is_not_signed(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would deploy nothing."""
    reason = Reason(code="image.blocked", fact="f", remedy="r")
    refused = Refused(image=ImageRef.parse(IMAGE), gate=Gate.DEPLOY, policy="sha256:" + "b" * 64, reasons=(reason,))
    ports = await ExecutionPorts.aload()
    monkeypatch.setattr(ports, "find_overridable", lambda ref, place: refused)

    assert await break_glass(**GIVEN) == refused
    assert done == []


async def test_break_glass_that_has_ended_is_not_signed(done: list[str]) -> None:
    """It would have no effect."""
    with pytest.raises(DeclarationInvalid, match="which is past"):
        await break_glass(**GIVEN | {"expires": NOON})
    assert done == []


async def test_break_glass_of_an_application_without_an_address_is_not_signed(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be deployed there."""
    monkeypatch.setattr(flows, "find_stored", Mock(return_value=ImageRef.parse(IMAGE.replace("hello", "other"))))
    with pytest.raises(SettingInvalid, match="no address"):
        await break_glass(**GIVEN)
    assert done == []


async def test_break_glass_is_not_signed_for_contradictory_environments(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deployment would fail after it."""
    ports: Any = await ExecutionPorts.aload()
    monkeypatch.setattr(
        ports.workbench, "valid_environment", Mock(side_effect=SettingInvalid("two share a port\nchange one"))
    )

    with pytest.raises(SettingInvalid, match="two share a port"):
        await break_glass(**GIVEN)
    assert done == []


async def test_run_of_prefect_deployment_refuses_break_glass(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine is not that person's."""
    monkeypatch.setattr(personal_keys, "deployment", SimpleNamespace(id="1"))
    with pytest.raises(DeclarationInvalid, match="cscm break-glass --key"):
        await break_glass(**GIVEN)
    assert done == []


@pytest.mark.parametrize("decide", [block, unblock, hold, unhold], ids=lambda flow: flow.name)
async def test_run_of_prefect_deployment_refuses_decision_with_personal_key(
    machine: object, monkeypatch: pytest.MonkeyPatch, decide: Any
) -> None:
    """The message names the command."""
    monkeypatch.setattr(personal_keys, "deployment", SimpleNamespace(id="1"))
    with pytest.raises(DeclarationInvalid, match=f"cscm {decide.name} --key"):
        await decide(image=IMAGE, reason="x", by="ann", key="ann.key")
