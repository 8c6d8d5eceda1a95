"""promote: which runs are still on their way, and a person's decision that is heard."""

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
from supply_chain.policy.dossier import said_by_execution
from supply_chain.promotion.moves import Move
from supply_chain.promotion.soaking import watched
from tasks import promote
from tests.unit.conftest import OTHER
from tests.unit.promotion.test_soaking import look

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
def test_a_run_whose_machine_died_holds_nothing_up(kind, name, begun, due, goes_on):
    """It is Running for ever; one that is due in years is as good as none. One that asks a person may take days."""
    at = now()
    state = State(type=StateType(kind), name=name, timestamp=at + timedelta(hours=begun))
    due_at = at + timedelta(hours=due)
    run = FlowRun(
        flow_id=uuid4(), state=state, state_type=state.type, state_name=state.name, expected_start_time=due_at
    )

    assert promote._goes_on(run) is goes_on


async def test_a_decision_is_later_than_the_one_before_whatever_the_clock_says(world, make, monkeypatch):
    """Two workers whose clocks differ: a no that counts as earlier than the yes before it would not be heard."""
    monkeypatch.setattr(promote, "emit", lambda *_, **__: None)
    world.now = make.noon + timedelta(minutes=4)
    store = world.store(TierName.EXECUTION)
    tier = SimpleNamespace(
        ecr=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=lambda workbench: store
    )
    for decision, minutes in (("approved", 3), ("denied", 0)):
        said = Approval(
            environment="staging", digest=REF.digest, decision=decision, who="ann", why="so",
            decided=make.noon + timedelta(minutes=minutes),
        )  # fmt: skip
        await promote.sign_decision.fn(REF, said, tier, None)

    last = last_approval(said_by_execution(REF, store, APPROVAL), "staging", REF.digest)
    assert last.value.decision == "denied" and last.at > make.noon + timedelta(minutes=3)


@pytest.mark.parametrize(("seen", "there", "goes"), [
    ({}, REF.digest, True), ({"digest": OTHER}, REF.digest, False), (None, REF.digest, False), (None, OTHER, True),
])  # fmt: skip
async def test_what_soaked_and_is_not_well_any_more_does_not_go_on(machine, monkeypatch, seen, there, goes):
    """An approval may take days; how what took its place there since is doing says nothing of it."""
    move = Move(image=REF, to="production", after="staging")
    kept = None if seen is None else watched(None, look(0, wanted=REF.digest, running=REF.digest))
    monkeypatch.setattr(promote, "to_environment", lambda *_: move)
    monkeypatch.setattr(promote, "missed_by_execution", lambda *_: (move,))
    runs = SimpleNamespace(environment="staging", application="hello", digest=there)
    monkeypatch.setattr(promote, "should_run", lambda *_: (runs,))
    monkeypatch.setattr(promote, "soaking_of", AsyncMock(return_value=kept and kept.model_copy(update=seen)))
    tier = SimpleNamespace(tier="execution", ecr=None, http=None, evidence=lambda workbench: None)
    workbench = SimpleNamespace(environment=None, environments=list)

    due = await promote.due_at_execution.fn(REF, "staging", tier, workbench)

    assert bool(due.to) is goes and await promote.missed.fn(tier, workbench) == ((move,) if goes else ())
    assert goes or due.why == "it was not well in staging when it was last looked at"


async def test_a_decision_that_was_signed_and_not_told_is_told_and_told_once(world, make, monkeypatch):
    """Its run was killed in between, and is run again."""
    told = []
    monkeypatch.setattr(promote, "emit", lambda event, ref, source, number, **_: told.append(number))
    monkeypatch.setattr(promote, "is_recorded", lambda number: number in told)
    store = world.store(TierName.EXECUTION)
    tier = SimpleNamespace(
        ecr=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=lambda workbench: store
    )
    said = Approval(
        environment="staging", digest=REF.digest, decision="approved", who="ann", why="so", decided=make.noon
    )
    store.attach(REF.moved_to("evidence/execution/hello"), APPROVAL, said.predicate(), make.noon)

    for _ in range(2):
        await promote.sign_decision.fn(REF, said, tier, None, sent=True)

    assert len(told) == 1 and len(said_by_execution(REF, store, APPROVAL)) == 1


@pytest.mark.parametrize(
    ("repository", "to", "deployment"),
    [("dev/hello", "curation", "promote/on-missed"), ("curated/hello", "curation", "promote/on-demand")],
)
async def test_a_move_is_started_as_its_tiers_work(monkeypatch, repository, to, deployment):
    """An environment may be called as a tier; and who was asked and has answered is not asked by the same run."""
    started = AsyncMock(return_value=SimpleNamespace(name="r"))
    monkeypatch.setattr(promote, "arun_deployment", started)
    move = Move(image=REF.moved_to(repository), to=to)

    for asks in (True, False):
        assert await promote.start(move.model_copy(update={"asks": asks})) == "r"

    assert [call.args for call in started.await_args_list] == [(deployment,)] * 2
    assert len({call.kwargs["idempotency_key"] for call in started.await_args_list}) == 2


@pytest.mark.parametrize(("comes", "at"), [(0, 0), (20, 20), (None, 60)])
async def test_evidence_is_waited_for_a_minute_however_long_each_look_takes(machine, world, monkeypatch, comes, at):
    """A registry may answer slowly; sixty looks of some seconds each would be many minutes."""
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

    monkeypatch.setattr(promote, "to_curation", move)
    monkeypatch.setattr(promote, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(promote.asyncio, "sleep", AsyncMock(side_effect=later))

    await promote.offered.fn(ref, SimpleNamespace(ecr=None, evidence=lambda _: SimpleNamespace(verified=look)), None)

    assert at <= clock[0] < at + 20
