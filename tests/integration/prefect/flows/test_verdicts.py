"""Flows that keep published verdicts true."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

import pytest

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from flows import verdicts as flows
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused
from tasks.verdicts import Renewals
from tests.support.facts import CURATED

REFUSED = Refused(
    image=CURATED, gate=Gate.RELEASE, policy="sha256:" + "b" * 64,
    reasons=(Reason(code="image.blocked", fact="f", remedy="r"),),
)  # fmt: skip


@pytest.mark.parametrize("verdict", [REFUSED, None])
async def test_blocked_image_is_judged_where_it_is_curated(
    machine: object, monkeypatch: pytest.MonkeyPatch, verdict: Refused | None
) -> None:
    """A digest may be blocked under its name in `dev/`. The intake gate says no more than the release gate."""
    asked: list[ImageRef] = []

    async def judge(ref: ImageRef, ports: Any) -> Refused | None:
        asked.append(ref)
        return verdict

    async def judge_intake(ref: ImageRef, ports: Any) -> str:
        asked.append(ref)
        return "the intake gate's"

    monkeypatch.setattr(CurationPorts, "aload", AsyncMock())
    monkeypatch.setattr(flows, "judge_release_step", judge)
    monkeypatch.setattr(flows, "judge_intake_step", judge_intake)

    assert await flows.judge_release(image=str(CURATED.with_repository("dev/hello"))) == verdict
    assert asked == [CURATED, CURATED]


@pytest.mark.parametrize(("tier", "ports"), [("curation", CurationPorts), ("execution", ExecutionPorts)])
async def test_each_tier_withdraws_with_its_own_identity(
    machine: object, monkeypatch: pytest.MonkeyPatch, tier: Any, ports: type
) -> None:
    """The other one's role cannot remove its verdicts."""
    monkeypatch.setattr(ports, "aload", AsyncMock(return_value=tier))
    monkeypatch.setattr(flows, "withdraw_step", AsyncMock(side_effect=lambda given: (given,)))

    assert await flows.withdraw(tier=tier) == (tier,)


@pytest.mark.parametrize("left", [(), ("the cluster of staging: it is away",)])
@pytest.mark.parametrize("unknown", [(), ("it is damaged",)])
async def test_renew_run_with_unjudged_deployments_ends_as_unreadable(
    machine: object, monkeypatch: pytest.MonkeyPatch, unknown: tuple[str, ...], left: tuple[str, ...]
) -> None:
    """Somebody has to look before the admission ends, or if a cluster goes on to admit what ended."""
    found = Renewals(judged=("a",), unknown=unknown)
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock())
    monkeypatch.setattr(flows, "renew_step", AsyncMock(return_value=found))
    monkeypatch.setattr(flows, "follow_verdicts_step", AsyncMock(return_value=left))

    flow: Any = flows.renew
    state = await flow(return_state=True)

    assert state.name == ("Unreadable" if unknown or left else "Completed")
    assert await state.result() == Renewals(judged=("a",), unknown=(*unknown, *left))


@pytest.mark.parametrize("withdrawn", [(), (CURATED,)])
@pytest.mark.parametrize("left", [(), ("the cluster of staging: it is away",)])
async def test_clusters_follow_withdrawn_verdicts(
    machine: object, monkeypatch: pytest.MonkeyPatch, withdrawn: tuple[ImageRef, ...], left: tuple[str, ...]
) -> None:
    """They would go on to admit an image that the registry no longer has, and `monitor` report it."""
    follow = AsyncMock(return_value=left)
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=object.__new__(ExecutionPorts)))
    monkeypatch.setattr(flows, "withdraw_step", AsyncMock(return_value=withdrawn))
    monkeypatch.setattr(flows, "follow_verdicts_step", follow)

    flow: Any = flows.withdraw
    state = await flow(tier="execution", return_state=True)

    assert follow.await_count == len(withdrawn) and await state.result() == withdrawn
    assert state.name == ("Unreadable" if withdrawn and left else "Completed")
