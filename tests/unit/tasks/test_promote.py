"""The tasks of promote: active runs, decisions of a person, and waiting for evidence."""

from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from orchestration.clock import now
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

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("kind", "name", "begun", "due", "goes_on"),
    [
        ("RUNNING", "Running", -1, -1, True),
        ("RUNNING", "Running", -7, -7, False),
        ("PENDING", "Pending", -7, -7, False),
        ("SCHEDULED", "Scheduled", -1, 1, True),
        ("SCHEDULED", "Scheduled", -1, 10_000, False),
        ("PAUSED", "Suspended", -300, -300, True),
        ("PAUSED", "Abandoned", -1, -1, False),
    ],
)
def test_only_active_promotion_run_goes_on(kind, name, begun, due, goes_on):
    """A run on a dead machine stays Running forever, but one that waits for a person may take days."""
    at = now()
    state = State(type=StateType(kind), name=name, timestamp=at + timedelta(hours=begun))
    due_at = at + timedelta(hours=due)
    run = FlowRun(
        flow_id=uuid4(), state=state, state_type=state.type, state_name=state.name, expected_start_time=due_at
    )

    assert promote._goes_on(run) is goes_on


async def test_later_decision_has_later_time_despite_clock_skew(world, make, monkeypatch):
    """With two differing clocks, a denial could otherwise seem older than the approval."""
    monkeypatch.setattr(promote, "emit", lambda *_, **__: None)
    world.now = make.noon + timedelta(minutes=4)
    store = world.store(TierName.EXECUTION)
    tier = SimpleNamespace(
        ecr=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=lambda workbench: store
    )
    for decision, minutes in (("approved", 3), ("denied", 0)):
        said = Approval(
            environment="staging", digest=REF.digest, decision=decision, by="ann", reason="so",
            decided=make.noon + timedelta(minutes=minutes),
        )  # fmt: skip
        await promote.sign_decision.fn(REF, said, tier, None)

    last = last_approval(execution_statements(REF, store, APPROVAL), "staging", REF.digest)
    assert last.value.decision == "denied" and last.at > make.noon + timedelta(minutes=3)


@pytest.mark.parametrize(("seen", "there", "goes"), [
    ({}, REF.digest, True), ({"digest": OTHER}, REF.digest, False), (None, REF.digest, False), (None, OTHER, True),
])  # fmt: skip
async def test_unhealthy_soaked_image_does_not_move(machine, monkeypatch, seen, there, goes):
    """An approval may take days; the state of another image in its place does not matter."""
    move = Move(image=REF, to="production", after="staging")
    kept = None if seen is None else continue_soak(None, look(0, wanted=REF.digest, running=REF.digest))
    monkeypatch.setattr(promote, "plan_deployment", lambda *_: move)
    monkeypatch.setattr(promote, "missed_deployments", lambda *_: (move,))
    runs = SimpleNamespace(environment="staging", application="hello", digest=there)
    monkeypatch.setattr(promote, "read_expected", lambda *_: (runs,))
    monkeypatch.setattr(promote, "soaking_of", AsyncMock(return_value=kept and kept.model_copy(update=seen)))
    tier = SimpleNamespace(tier="execution", ecr=None, http=None, evidence=lambda workbench: None)
    workbench = SimpleNamespace(environment=None, environments=list)

    due = await promote.due_at_execution.fn(REF, "staging", tier, workbench)

    assert bool(due.to) is goes and await promote.missed.fn(tier, workbench) == ((move,) if goes else ())
    assert goes or due.reason == "it was not healthy in staging at the last observation"


async def test_signed_decision_without_event_emits_it_once(world, make, monkeypatch):
    """Its run was killed in between and runs again."""
    told = []
    monkeypatch.setattr(promote, "emit", lambda event, ref, source, number, **_: told.append(number))
    monkeypatch.setattr(promote, "is_recorded", lambda number: number in told)
    store = world.store(TierName.EXECUTION)
    tier = SimpleNamespace(
        ecr=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=lambda workbench: store
    )
    said = Approval(
        environment="staging", digest=REF.digest, decision="approved", by="ann", reason="so", decided=make.noon
    )
    store.attach(REF.moved_to("evidence/execution/hello"), APPROVAL, said.predicate(), make.noon)

    for _ in range(2):
        await promote.sign_decision.fn(REF, said, tier, None, sent=True)

    assert len(told) == 1 and len(execution_statements(REF, store, APPROVAL)) == 1


@pytest.mark.parametrize(
    ("repository", "to", "deployment"),
    [("dev/hello", "curation", "promote/on-missed"), ("curated/hello", "curation", "promote/on-demand")],
)
async def test_move_starts_deployment_of_its_tier(monkeypatch, repository, to, deployment):
    """An environment may have the name of a tier, and the idempotency key depends on the pending question."""
    started = AsyncMock(return_value=SimpleNamespace(name="r"))
    monkeypatch.setattr(promote, "arun_deployment", started)
    move = Move(image=REF.moved_to(repository), to=to)

    for asks in (True, False):
        assert await promote.start(move.model_copy(update={"asks": asks})) == "r"

    assert [call.args for call in started.await_args_list] == [(deployment,)] * 2
    assert len({call.kwargs["idempotency_key"] for call in started.await_args_list}) == 2


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
    monkeypatch.setattr(promote.asyncio, "sleep", AsyncMock(side_effect=later))

    await promote.offered.fn(ref, SimpleNamespace(ecr=None, evidence=lambda _: SimpleNamespace(verified=look)), None)

    assert at <= clock[0] < at + 20
