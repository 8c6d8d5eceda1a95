"""Runs that promote an image: which still act, and what starts another."""

from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from orchestration import promotions
from orchestration.clock import read_clock
from supply_chain.model.image import ImageRef
from supply_chain.promotion.planned_promotion import PlannedPromotion

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
def test_promotion_run_counts_as_active_unless_it_is_dead(kind, name, begun, due, goes_on):
    """A run on a dead machine stays Running forever, but one that waits for a person may take days."""
    at = read_clock()
    state = State(type=StateType(kind), name=name, timestamp=at + timedelta(hours=begun))
    due_at = at + timedelta(hours=due)
    run = FlowRun(
        flow_id=uuid4(), state=state, state_type=state.type, state_name=state.name, expected_start_time=due_at
    )

    assert promotions._is_alive(run) is goes_on


@pytest.mark.parametrize(
    ("repository", "to", "deployment"),
    [("dev/hello", "curation", "promote/on-missed"), ("curated/hello", "curation", "promote/on-demand")],
)
async def test_move_starts_deployment_of_its_tier(monkeypatch, repository, to, deployment):
    """An environment may have the name of a tier, and the idempotency key depends on the pending question."""
    started = AsyncMock(return_value=SimpleNamespace(name="r"))
    monkeypatch.setattr(promotions, "arun_deployment", started)
    promotion = PlannedPromotion(image=REF.with_repository(repository), to=to)

    for awaits_approval in (True, False):
        assert (
            await promotions.start_promotion(promotion.model_copy(update={"awaits_approval": awaits_approval})) == "r"
        )

    assert [call.args for call in started.await_args_list] == [(deployment,)] * 2
    assert len({call.kwargs["idempotency_key"] for call in started.await_args_list}) == 2
