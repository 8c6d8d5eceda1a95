"""A freeze holds promotions, and says who wanted it."""

from uuid import uuid4

import pytest
from prefect.variables import Variable

from flows import promote as flows
from flows.promote import promote
from flows.reconcile import reconcile
from orchestration import promotion_freeze
from orchestration.promotion_freeze import active_freeze, lift_freeze, set_freeze
from supply_chain.errors import SettingInvalid
from supply_chain.promotion.freeze import PromotionFreeze

IMAGE = "dev/hello@sha256:" + "a" * 64


@pytest.fixture(autouse=True)
async def alone(machine, monkeypatch):
    """A variable of the test's own, for the server is everybody's."""
    monkeypatch.setattr(promotion_freeze, "VARIABLE", f"frozen_{uuid4().hex}")


async def test_a_freeze_is_kept_until_it_is_thawed(make):
    """With who and why, for everybody who asks."""
    about = PromotionFreeze(by="ann", why="holidays", since=make.noon)
    await set_freeze(about)
    assert await active_freeze() == about
    assert await lift_freeze() and not await lift_freeze()
    assert await active_freeze() is None


async def test_a_promotion_ends_as_frozen_and_touches_nothing(make, monkeypatch):
    """By an event or by the reconcile; not even its settings are read."""

    async def forbidden(*_):
        raise AssertionError("a frozen promotion went on")

    for block in (flows.Tier, flows.Workbench):
        monkeypatch.setattr(block, "aload", forbidden)
    await set_freeze(PromotionFreeze(by="ann", why="holidays", since=make.noon))

    for state in (await promote(IMAGE, return_state=True), await reconcile("curation", return_state=True)):
        assert (state.type.value, state.name) == ("COMPLETED", "Frozen")
        assert "by ann" in state.message and "holidays" in state.message


async def test_a_freeze_that_cannot_be_read_freezes():
    """Somebody wanted something to wait: nothing is promoted until it is clear what."""
    await Variable.aset(promotion_freeze.VARIABLE, "yes please", overwrite=True)
    with pytest.raises(SettingInvalid, match="cscm thaw"):
        await promote(IMAGE)
