"""promote: which runs are still on their way, and a person's decision that is heard."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from blocks.workbench import now
from supply_chain.evidence.approval import Approval, last_approval
from supply_chain.image import ImageRef
from supply_chain.policy.dossier import approvals
from supply_chain.tier import TierName
from tasks import promote

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("kind", "begun", "due", "goes_on"),
    [
        ("RUNNING", -1, -1, True),
        ("RUNNING", -7, -7, False),
        ("PENDING", -7, -7, False),
        ("SCHEDULED", -1, 1, True),
        ("SCHEDULED", -1, 10_000, False),
        ("PAUSED", -300, -300, True),
    ],
)
def test_a_run_whose_machine_died_holds_nothing_up(kind, begun, due, goes_on):
    """It is Running for ever; one that is due in years is as good as none. One that asks a person may take days."""
    at = now()
    state = State(type=StateType(kind), timestamp=at + timedelta(hours=begun))
    run = FlowRun(
        flow_id=uuid4(), state=state, state_type=StateType(kind), expected_start_time=at + timedelta(hours=due)
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

    last = last_approval(approvals(REF, store), "staging", REF.digest)
    assert last.value.decision == "denied" and last.at > make.noon + timedelta(minutes=3)
