"""A promotion freeze stops promotions and names who set it and why."""

from uuid import uuid4

import pytest
from prefect.variables import Variable

from blocks import Tier, Workbench
from flows.catch_up import catch_up
from flows.promote import promote
from orchestration import promotion_freeze
from orchestration.promotion_freeze import find_active_freeze, lift_freeze, set_freeze
from supply_chain.errors import SettingInvalid
from supply_chain.promotion.freeze import PromotionFreeze
from tests.support.present import present

IMAGE = "dev/hello@sha256:" + "a" * 64


@pytest.fixture(autouse=True)
async def alone(machine, monkeypatch):
    """Use a Prefect variable of the test's own, because the server is shared, and return its name."""
    name = f"frozen_{uuid4().hex}"
    monkeypatch.setattr(promotion_freeze, "VARIABLE", name)
    return name


async def test_freeze_stays_active_until_it_is_lifted(make):
    """Everyone can see who set it and why."""
    about = PromotionFreeze(by="ann", reason="holidays", since=make.noon)
    await set_freeze(about)
    assert await find_active_freeze() == about
    assert await lift_freeze() and not await lift_freeze()
    assert await find_active_freeze() is None


async def test_promotion_ends_as_frozen_without_any_access(make, monkeypatch):
    """This covers runs by events and catch-up runs; not even settings are read."""

    async def forbidden(*_):
        raise AssertionError("a frozen promotion went on")

    for block in (Tier, Workbench):
        monkeypatch.setattr(block, "aload", forbidden)
    await set_freeze(PromotionFreeze(by="ann", reason="holidays", since=make.noon))

    for state in (await promote(IMAGE, return_state=True), await catch_up("curation", return_state=True)):
        assert (state.type.value, state.name) == ("COMPLETED", "Frozen")
        message = present(state.message)
        assert "by ann" in message and "holidays" in message


async def test_unreadable_freeze_stops_promotions(alone):
    """Somebody wanted to stop promotions, so none starts until the value is fixed."""
    await Variable.aset(alone, "yes please", overwrite=True)
    with pytest.raises(SettingInvalid, match="cscm unfreeze"):
        await promote(IMAGE)
