"""The tasks of promote: decisions of a person, moves, and waiting for evidence."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from supply_chain.evidence.approval import Approval, last_approval
from supply_chain.evidence.statement import APPROVAL, PROVENANCE
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.reading import execution_statements
from supply_chain.promotion.moves import Move
from supply_chain.promotion.soaking import continue_soak
from tasks import promote
from tests.support.builders import OTHER
from tests.support.observations import look
from tests.support.policies import POLICIES
from tests.support.present import present

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


async def test_later_decision_has_later_time_despite_clock_skew(world, make, monkeypatch):
    """With two differing clocks, a denial could otherwise seem older than the approval."""
    monkeypatch.setattr(promote, "emit", lambda *_, **__: None)
    world.now = make.noon + timedelta(minutes=4)
    store = world.store(TierName.EXECUTION)
    ports: Any = SimpleNamespace(repositories=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=store)
    for decision, minutes in (("approved", 3), ("denied", 0)):
        approval = Approval(
            environment="staging", digest=REF.digest, decision=decision, by="ann", reason="so",
            decided=make.noon + timedelta(minutes=minutes),
        )  # fmt: skip
        await promote.sign_decision_step.fn(REF, approval, ports)

    last = present(last_approval(execution_statements(REF, store, APPROVAL), "staging", REF.digest))
    assert last.value.decision == "denied" and last.at > make.noon + timedelta(minutes=3)


@pytest.mark.parametrize(("changes", "deployed", "goes"), [
    ({}, REF.digest, True), ({"digest": OTHER}, REF.digest, False), (None, REF.digest, False), (None, OTHER, True),
])  # fmt: skip
async def test_unhealthy_soaked_image_does_not_move(machine, monkeypatch, changes, deployed, goes):
    """An approval may take days; the state of another image in its place does not matter."""
    move = Move(image=REF, to="production", after="staging")
    soaking = None if changes is None else continue_soak(None, look(0, wanted=REF.digest, running=REF.digest))
    monkeypatch.setattr(promote, "plan_deployment", lambda *_: move)
    monkeypatch.setattr(promote, "missed_deployments", lambda *_: (move,))
    runs = SimpleNamespace(environment="staging", application="hello", digest=deployed)
    monkeypatch.setattr(promote, "read_expected", lambda *_: (runs,))
    monkeypatch.setattr(promote, "read_soaking", AsyncMock(return_value=soaking and soaking.model_copy(update=changes)))
    workbench = SimpleNamespace(environment=None, environments=list, policies=lambda: POLICIES)
    ports: Any = SimpleNamespace(
        name=TierName.EXECUTION, repositories=None, registry=None, evidence=None, workbench=workbench
    )

    due = await promote.plan_deployment_step.fn(REF, "staging", ports)

    assert bool(due.to) is goes and await promote.find_missed_step.fn(ports) == ((move,) if goes else ())
    assert goes or due.reason == "it was not healthy in staging at the last observation"


async def test_signed_decision_without_event_emits_it_once(world, make, monkeypatch):
    """Its run was killed in between and runs again."""
    emitted = []
    monkeypatch.setattr(promote, "emit", lambda event, ref, source, number, **_: emitted.append(number))
    monkeypatch.setattr(promote, "is_recorded", lambda number: number in emitted)
    store = world.store(TierName.EXECUTION)
    ports: Any = SimpleNamespace(repositories=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=store)
    approval = Approval(
        environment="staging", digest=REF.digest, decision="approved", by="ann", reason="so", decided=make.noon
    )
    store.attach(REF.moved_to("evidence/execution/hello"), APPROVAL, approval.predicate(), make.noon)

    for _ in range(2):
        await promote.sign_decision_step.fn(REF, approval, ports, sent=True)

    assert len(emitted) == 1 and len(execution_statements(REF, store, APPROVAL)) == 1


@pytest.mark.parametrize(("comes", "at"), [(0, 0), (20, 20), (None, 60)])
async def test_wait_for_evidence_is_limited_to_a_minute(machine, world, monkeypatch, comes, at):
    """A slow registry must not extend the wait."""
    ref, clock = ImageRef(repository="dev/hello", digest=OTHER), [0]
    development, curation = world.store(TierName.DEVELOPMENT), world.store(TierName.CURATION)

    def later(seconds):
        clock[0] += seconds
        if comes is not None and clock[0] >= comes and not curation.verified(ref, TierName.DEVELOPMENT, PROVENANCE):
            development.attach(ref, PROVENANCE, {}, world.now)

    def look(*about):
        later(18)
        return curation.verified(*about)

    def move(*_):
        later(0)
        return Move(image=ref, waits=not curation.verified(ref, TierName.DEVELOPMENT, PROVENANCE))

    monkeypatch.setattr(promote, "plan_curation", move)
    monkeypatch.setattr(promote, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(asyncio, "sleep", AsyncMock(side_effect=later))

    ports: Any = SimpleNamespace(repositories=None, evidence=SimpleNamespace(verified=look))
    signed = await promote.await_evidence_step.fn(ref, ports, 60)

    assert at <= clock[0] < at + 20
    assert signed is (comes is not None)
