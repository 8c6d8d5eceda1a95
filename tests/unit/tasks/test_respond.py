"""respond: an event says that something happened, and signed evidence says whether it did."""

from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

from supply_chain.evidence.standing import standing_place
from supply_chain.evidence.statement import LIFECYCLE
from supply_chain.image import ImageRef
from supply_chain.tier import TierName
from tasks import respond

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
BLOCKED = "cscm.image.blocked"


@pytest.fixture
def told(world, monkeypatch):
    """What is told of an event, and whether it cancelled what was on its way."""
    run, cancelled = SimpleNamespace(id=uuid4(), name="promote hello"), []

    class Client:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            return None

        async def set_flow_run_state(self, id, state, force):
            cancelled.append(id)

    monkeypatch.setattr(respond, "get_client", Client)
    monkeypatch.setattr(respond, "promoting", AsyncMock(return_value=[run]))
    tier = SimpleNamespace(
        evidence=lambda workbench: world.store(TierName.EXECUTION),
        ecr=SimpleNamespace(repositories=lambda prefix: ()),
    )
    workbench = SimpleNamespace(environments=lambda: ())

    async def tell(happened, facts=("by mallory: for fun",)):
        return await respond.gathered.fn(REF, happened, facts, tier, workbench), bool(cancelled)

    return tell


@pytest.mark.parametrize(("acts", "cancels"), [((), False), (("block",), True), (("block", "unblock"), False)])
async def test_a_block_that_nobody_signed_cancels_nothing(told, world, make, acts, cancels):
    """Anybody who may emit an event could say so, and an old one may come again after the block was lifted."""
    for number, act in enumerate(acts):
        at = make.noon.replace(second=number)
        predicate = {"act": act, "by": "ann", "why": "a key in it", "at": at.isoformat()}
        world.store(TierName.LIFECYCLE).attach(standing_place(REF), LIFECYCLE, predicate, at)
    world.now = make.noon.replace(minute=1)

    found, cancelled = await told(BLOCKED)

    assert cancelled is cancels
    assert any("by ann" in fact for fact in found.facts) is cancels
    assert not any("mallory" in fact for fact in found.facts), "who and why are the signed statement's"
    assert cancels or found.facts == (respond.NOT_BLOCKED,)


async def test_what_ends_no_way_is_told_as_it_came(told):
    """A changed verdict, a drift: what is on its way meets the gate."""
    found, cancelled = await told("cscm.image.verdict-changed", ("scan.critical: one",))

    assert (found.facts, cancelled, found.on_the_way) == (("scan.critical: one",), False, ("promote hello",))
