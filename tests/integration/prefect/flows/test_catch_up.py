"""catch-up: each tier starts its own missed promotions, except those that are already active."""

import asyncio
import threading
from contextlib import suppress
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import ArtifactSort

import tasks.promote
from blocks import Tier, Workbench, tier_ports
from flows import catch_up as flows
from orchestration import promotion_freeze, promotions
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.model.image import ImageRef
from supply_chain.promotion.planned_promotion import PlannedPromotion
from tests.support.policies import POLICIES
from tests.support.present import present

OFFERED = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
RELEASED = ImageRef(repository="curated/hello", digest="sha256:" + "b" * 64)
TO_CURATION = PlannedPromotion(image=OFFERED, to="curation")
TO_STAGING = PlannedPromotion(image=RELEASED, to="staging")


@pytest.fixture
def shop(machine, monkeypatch):
    """Set what each tier finds missed, and record the started runs."""
    shop = SimpleNamespace(
        state=StateType.RUNNING,
        loaded=[],
        started=[],
        on_the_way=[],
        looks=[],
        curation=(TO_CURATION,),
        execution=(TO_STAGING,),
    )

    async def load(name):
        shop.loaded.append(name)
        return SimpleNamespace(
            ecr=None,
            http=None,
            environment=None,
            environment_documents=lambda: EnvironmentDocuments((), {}),
            policies=lambda: POLICIES,
        )

    async def run(deployment, parameters, **_):
        shop.started.append((deployment, parameters))
        return SimpleNamespace(name="a run")

    async def promoting(digest):
        return [SimpleNamespace(id=uuid4(), parameters=each, state_type=shop.state) for each in shop.on_the_way]

    monkeypatch.setattr(promotion_freeze, "VARIABLE", f"frozen_{uuid4().hex}")
    monkeypatch.setattr(Tier, "aload", load)
    monkeypatch.setattr(Workbench, "aload", load)
    monkeypatch.setattr(tier_ports.TierPorts, "evidence", None)

    def curation(images, store, shallow):
        shop.looks.append(shallow)
        return shop.curation

    def execution(sources):
        shop.looks.append("all")
        return shop.execution

    monkeypatch.setattr(tasks.promote, "find_missed_curations", curation)
    monkeypatch.setattr(tasks.promote, "find_missed_deployments", execution)
    monkeypatch.setattr(promotions, "list_promotions", promoting)
    monkeypatch.setattr(promotions, "arun_deployment", run)
    return shop


async def table(tier):
    async with get_client() as client:
        found = await client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    return max(
        (each for each in found if each.key == f"missed-promotions-{tier}"), key=lambda each: present(each.created)
    ).data


@pytest.mark.parametrize(("tier", "deployment", "promotion"), [
    ("curation", "promote/on-missed", TO_CURATION), ("execution", "promote/on-demand", TO_STAGING),
])  # fmt: skip
async def test_catch_up_uses_only_its_own_tier(shop, tier, deployment, promotion):
    """The credentials of other tiers are not loaded."""
    assert await flows.catch_up(tier) == (promotion,)

    assert sorted(shop.loaded) == sorted([tier, "workbench"])
    assert shop.started == [(deployment, {"image": str(promotion.image), "after": None})]
    assert "a run" in await table(tier)


@pytest.mark.parametrize(("tier", "shallow", "looks"), [
    ("curation", False, [True, False]), ("curation", True, [True]), ("execution", False, ["all"]),
])  # fmt: skip
async def test_catch_up_looks_at_each_part_once(shop, tier, shallow, looks):
    """Curation begins with a shallow look; released images need only one look."""
    await flows.catch_up(tier, shallow=shallow)

    assert shop.looks == looks


async def test_catch_up_of_pushes_waits_for_earlier_catch_up(shop, monkeypatch):
    """It begins afterwards, so it covers all pushes that came meanwhile."""
    meeting, together = threading.Barrier(2), []

    def curation(images, store, shallow):
        with suppress(threading.BrokenBarrierError):
            together.append(meeting.wait(4))
        shop.looks.append(shallow)
        return ()

    monkeypatch.setattr(tasks.promote, "find_missed_curations", curation)
    await asyncio.gather(*(flows.catch_up("curation", shallow=True) for _ in range(2)))

    assert (shop.looks, together) == ([True, True], [])


async def test_active_promotion_is_not_started_again(shop):
    """The event of the push came late, and its run is active."""
    shop.on_the_way = [{"image": str(OFFERED), "after": None}]

    await flows.catch_up("curation")

    assert shop.started == [] and "runs already" in await table("curation")


@pytest.mark.parametrize(("awaits_approval", "started"), [(True, 0), (False, 1)])
async def test_promotion_waiting_for_approval_is_not_started_again(shop, awaits_approval, started):
    """`cscm approve` gives the answer as well as the form."""
    shop.state, shop.on_the_way = StateType.PAUSED, [{"image": str(RELEASED), "after": None}]
    shop.execution = (TO_STAGING.model_copy(update={"awaits_approval": awaits_approval}),)

    await flows.catch_up("execution")

    assert len(shop.started) == started


async def test_unreadable_image_is_reported_and_others_are_started(shop):
    """The run completes in the state Unreadable."""
    damaged = PlannedPromotion(
        image=RELEASED.model_copy(update={"repository": "curated/other"}), reason="damaged", unreadable=True
    )
    shop.execution = (damaged, TO_STAGING)

    state = await flows.catch_up("execution", return_state=True)

    assert (state.type.value, state.name) == ("COMPLETED", "Unreadable") and "curated/other" in present(state.message)
    assert [parameters["image"] for _, parameters in shop.started] == [str(RELEASED)]
