"""chain: the tiers in a row, as far as somebody lets it go."""

from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

import tasks.freeze
from flows import chain as flows
from flows.chain import chain
from supply_chain.image import ImageRef
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.promotion.freeze import Freeze
from supply_chain.tier import Boundary

STEPS = ("develop", "curate", "execute")


@pytest.mark.parametrize(
    ("by_event", "frozen_before", "ends", "done"),
    [
        (True, "curate", "Frozen", 1),
        (True, "execute", "Frozen", 2),
        (True, None, "Completed", 3),
        (False, "curate", "Completed", 3),
    ],
)
async def test_a_push_is_held_by_a_freeze_and_a_person_is_not(
    machine, make, monkeypatch, by_event, frozen_before, ends, done
):
    """What it has offered or curated by then goes on after the thaw, as the reconcile finds it."""
    monkeypatch.setattr(tasks.freeze, "VARIABLE", f"frozen_{uuid4().hex}")
    monkeypatch.setattr(flows, "_known", lambda *_: None)
    monkeypatch.setattr(flows, "snapshot_of", lambda *_: nullcontext(SimpleNamespace(manifest=make.manifest())))
    monkeypatch.setattr(flows, "journal", lambda *_: nullcontext())
    monkeypatch.setattr(flows.Workbench, "aload", AsyncMock())
    monkeypatch.setattr(flows, "turn", lambda name: nullcontext(waited.append(name)))
    called, waited = [], []

    def step(name, following):
        async def run(**_):
            called.append(name)
            if following == frozen_before:
                await tasks.freeze.freeze(Freeze(by="ann", why="holidays", since=make.noon))
            return SimpleNamespace(
                ref=ImageRef(repository="curated/hello", digest=make.digest), environments=("staging",)
            )

        return run

    for name, following in zip(STEPS, (*STEPS[1:], ""), strict=True):
        monkeypatch.setattr(flows, name, step(name, following))

    assert (await chain("/srv/hello", by_event=by_event, return_state=True)).name == ends
    assert called == list(STEPS[:done])
    assert waited == ["promote hello", *(["curate hello", "deploy staging hello"][:done] if by_event else [])]


async def test_a_freeze_that_comes_while_a_chain_waits_for_its_turn_holds_it(machine, make, monkeypatch):
    """What is asked before the turn may be minutes old by then."""
    monkeypatch.setattr(tasks.freeze, "VARIABLE", f"frozen_{uuid4().hex}")

    @asynccontextmanager
    async def turn(name):
        await tasks.freeze.freeze(Freeze(by="ann", why="holidays", since=make.noon))
        yield

    monkeypatch.setattr(flows, "turn", turn)

    async with flows._in_turn("deploy staging hello", True) as freeze:
        assert freeze.by == "ann"
    async with flows._in_turn("deploy staging hello", False) as freeze:
        assert freeze is None


async def test_a_refused_name_ends_the_chain_as_refused(machine, make, monkeypatch):
    """Nothing was built, so that there is nothing to curate."""
    refusal = Refused(
        image=None,
        application="hello",
        boundary=Boundary.TO_CURATION,
        policy=f"sha256:{'0' * 64}",
        reasons=(Reason(code="name.taken", fact="hello is another's", remedy="use another name"),),
    )
    monkeypatch.setattr(flows, "_known", lambda *_: None)
    snapshot = SimpleNamespace(manifest=make.manifest())
    monkeypatch.setattr(flows, "snapshot_of", lambda *_: nullcontext(snapshot))
    monkeypatch.setattr(flows, "journal", lambda *_: nullcontext())
    monkeypatch.setattr(flows.Workbench, "aload", AsyncMock())
    monkeypatch.setattr(flows, "develop", AsyncMock(return_value=refusal))

    state = await chain("/srv/hello", return_state=True)

    assert (state.name, await state.result()) == ("Refused", refusal)
