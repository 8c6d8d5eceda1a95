"""promote: what one run holds while it looks, so that it sees what another one is about to sign; and decisions."""

from contextlib import asynccontextmanager
from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

import tasks.freeze
from flows import promote as flows
from flows.promote import approve, promote
from supply_chain.image import ImageRef
from supply_chain.promotion.moves import Move

IMAGE = "curated/hello@sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def parts(machine, monkeypatch):
    """The blocks are nobody's, and nothing is frozen."""
    monkeypatch.setattr(tasks.freeze, "VARIABLE", f"frozen_{uuid4().hex}")
    for block in (flows.Tier, flows.Workbench):
        monkeypatch.setattr(block, "aload", AsyncMock())
    monkeypatch.setattr(flows, "find", AsyncMock(return_value=ImageRef.parse(IMAGE)))


@pytest.mark.parametrize(("after", "held"), [(None, ["promote hello", "curate hello"]), ("staging", ["promote hello"])])
async def test_what_was_admitted_just_now_is_looked_at_when_its_curation_has_ended(monkeypatch, after, held):
    """The event comes before the signature. What soaked was signed long before, and waits for no newer image."""
    turns, seen = [], []

    @asynccontextmanager
    async def turn(name, *_):
        turns.append(name)
        yield
        turns.remove(name)

    async def due(ref, after, *_):
        seen.append((after, list(turns)))
        return Move(image=ref, why="it is there")

    monkeypatch.setattr(flows, "turn", turn)
    monkeypatch.setattr(flows, "due_at_execution", due)

    assert (await promote(IMAGE, after, return_state=True)).name == "Unneeded"
    assert seen == [(after, held)] and turns == []


@pytest.mark.parametrize(("runs", "state", "signs"), [(1, "Unneeded", 0), (2, "Completed", 1)])
async def test_what_a_person_answered_is_signed_whatever_else_is_on_the_way(monkeypatch, runs, state, signs):
    """An event that came twice has started another run of the same move: who was not asked yet leaves it to that."""
    ref, place = ImageRef.parse(IMAGE), SimpleNamespace(asks=True)
    flows.Workbench.aload.return_value = SimpleNamespace(environment=lambda name: place)
    monkeypatch.setattr(flows, "deployment", SimpleNamespace(id="d"))
    monkeypatch.setattr(flows, "flow_run", SimpleNamespace(run_count=runs))
    monkeypatch.setattr(flows, "due_at_execution", AsyncMock(return_value=Move(image=ref, to="production", asks=True)))
    monkeypatch.setattr(flows, "on_the_way", AsyncMock(return_value=True))
    monkeypatch.setattr(flows, "_asked", AsyncMock(return_value="yes"))
    monkeypatch.setattr(flows, "execute", AsyncMock(return_value=None))
    signed = AsyncMock()
    monkeypatch.setattr(flows, "sign_decision", signed)

    assert (await promote(IMAGE, "staging", return_state=True)).name == state
    assert [call.args[:2] for call in signed.await_args_list] == [(ref, "yes")] * signs


@pytest.mark.parametrize(("runs", "asks", "signs"), [(2, True, 1), (2, False, 0), (1, True, 0)])
async def test_what_a_person_answered_is_signed_though_others_decided_meanwhile(monkeypatch, runs, asks, signs):
    """The last word counts: a no in the form, after a yes on the command line, is one."""
    ref, place = ImageRef.parse(IMAGE), SimpleNamespace(asks=asks)
    flows.Workbench.aload.return_value = SimpleNamespace(environment=lambda name: place)
    monkeypatch.setattr(flows, "deployment", SimpleNamespace(id="d"))
    monkeypatch.setattr(flows, "flow_run", SimpleNamespace(run_count=runs))
    monkeypatch.setattr(flows, "due_at_execution", AsyncMock(return_value=Move(image=ref, to="production")))
    monkeypatch.setattr(flows, "_asked", AsyncMock(return_value="no"))
    monkeypatch.setattr(flows, "execute", AsyncMock(return_value=None))
    signed = AsyncMock()
    monkeypatch.setattr(flows, "sign_decision", signed)

    await promote(IMAGE, "staging", return_state=True)

    assert [call.args[:2] for call in signed.await_args_list] == [(ref, "no")] * signs


@pytest.mark.parametrize(("asks", "deny", "told"), [(True, False, False), (False, False, True), (False, True, False)])
async def test_of_a_yes_that_nobody_asks_for_it_is_told_what_it_counts_for(monkeypatch, caplog, asks, deny, told):
    """A no is heard everywhere."""
    place = SimpleNamespace(name="staging", asks=asks)
    flows.Workbench.aload.return_value = SimpleNamespace(environment=lambda name: place)
    signed = AsyncMock()
    monkeypatch.setattr(flows, "sign_decision", signed)
    caplog.set_level("INFO", "supply_chain.steps")

    said = await approve(IMAGE, "staging", who="ann", why="so", deny=deny)

    assert signed.await_args.args[1] == said and said.approved is not deny
    assert ("asks for no approval" in caplog.text) is told
