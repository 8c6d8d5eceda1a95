"""promote: the locks of a run, its checks before each step, and the decisions of a person."""

from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock
from uuid import uuid4

import orjson
import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async
from prefect.flow_runs import aresume_flow_run
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.states import Scheduled

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from flows import promote as flows
from flows.promote import approve, promote
from orchestration import personal_keys, promotion_freeze
from orchestration.waiting_runs import SOON
from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.execution.environment import DockerEnvironment, DockerPlacement
from supply_chain.model.image import ImageRef
from supply_chain.promotion.coalescing import EVIDENCE_WAIT
from supply_chain.promotion.freeze import PromotionFreeze
from supply_chain.promotion.planned_promotion import PlannedPromotion
from tests.support.present import present

IMAGE = "curated/hello@sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def parts(machine, monkeypatch):
    """Replace the blocks, and start without a freeze."""
    monkeypatch.setattr(promotion_freeze, "VARIABLE", f"frozen_{uuid4().hex}")
    for ports in (CurationPorts, ExecutionPorts):
        monkeypatch.setattr(ports, "aload", AsyncMock())
    monkeypatch.setattr(flows, "await_evidence_step", AsyncMock())
    for find in ("find", "find_stored"):
        monkeypatch.setattr(flows, find, Mock(return_value=ImageRef.parse(IMAGE)))


@pytest.mark.parametrize(("after", "held"), [(None, ["promote hello", "curate hello"]), ("staging", ["promote hello"])])
async def test_admitted_image_is_checked_after_its_curation_ended(monkeypatch, after, held):
    """The event comes before the signature; a soaked image was signed long before and needs no lock."""
    locks, checks = [], []

    @asynccontextmanager
    async def lock(name, *_):
        locks.append(name)
        yield
        locks.remove(name)

    async def due(ref, after, *_):
        checks.append((after, list(locks)))
        return PlannedPromotion(image=ref, reason="it is there")

    monkeypatch.setattr(flows, "run_lock", lock)
    monkeypatch.setattr(flows, "plan_deployment_step", due)

    assert (await promote(IMAGE, after, return_state=True)).name == "Unneeded"
    assert checks == [(after, held)] and locks == []


async def test_promotion_ends_if_another_run_already_asks_for_approval(monkeypatch):
    """A duplicate event has started that run."""
    promotion = PlannedPromotion(image=ImageRef.parse(IMAGE), to="production", awaits_approval=True)
    monkeypatch.setattr(flows, "deployment", SimpleNamespace(id="d"))
    monkeypatch.setattr(flows, "plan_deployment_step", AsyncMock(return_value=promotion))
    monkeypatch.setattr(flows, "is_active", AsyncMock(return_value=True))

    state = await promote(IMAGE, "staging", return_state=True)

    assert state.name == "Unneeded" and "another run already asks" in present(state.message)


@pytest.mark.parametrize(
    ("image", "due", "does", "step"),
    [
        ("dev/hello@sha256:" + "a" * 64, "plan_curation_step", "curate", "curate hello"),
        (IMAGE, "plan_deployment_step", "deploy", "deploy staging hello"),
    ],
)
@pytest.mark.parametrize(
    ("meanwhile", "ends"), [("freeze", "Frozen"), ("deployed", "Unneeded"), ("nothing", "Completed")]
)
async def test_promotion_is_checked_again_after_waiting_for_lock(
    monkeypatch, make, image, due, does, step, meanwhile, ends
):
    """Meanwhile, somebody may set a freeze or deploy a newer image."""
    ref, held = ImageRef.parse(image), []
    to = PlannedPromotion(image=ref, to="curation" if does == "curate" else "staging")

    @asynccontextmanager
    async def lock(name, *_):
        if name == step and meanwhile == "freeze":
            await promotion_freeze.set_freeze(PromotionFreeze(by="ann", reason="holidays", since=make.noon))
        held.append(name)
        yield
        held.remove(name)

    async def look(*_, **__):
        return PlannedPromotion(image=ref, reason="another") if step in held and meanwhile == "deployed" else to

    async def do(**_):
        assert step in held

    for name, stand_in in ((due, look), ("run_lock", lock), (does, AsyncMock(side_effect=do, return_value=None))):
        monkeypatch.setattr(flows, name, stand_in)
    monkeypatch.setattr(flows, "find", Mock(return_value=ref))

    assert (await promote(image, return_state=True)).name == ends
    assert getattr(flows, does).await_count == (meanwhile == "nothing")


@pytest.mark.parametrize(("is_first", "ends"), [(True, "Completed"), (False, "Unneeded")])
async def test_push_promotes_newest_image_unless_another_run_waits(monkeypatch, is_first, ends):
    """A thousand pushes give one working and one waiting run."""
    ref, curated = ImageRef.parse("dev/hello@sha256:" + "a" * 64), AsyncMock(return_value=None)
    newest = ref.model_copy(update={"digest": "sha256:" + "b" * 64})

    @asynccontextmanager
    async def lock(*_):
        yield is_first

    async def due(*_, newest):
        assert newest
        return PlannedPromotion(image=ref.model_copy(update={"digest": "sha256:" + "b" * 64}), to="curation")

    stand_ins = (
        ("run_lock", lock), ("next_run_lock", lock), ("plan_curation_step", due), ("curate", curated),
        ("find", Mock(return_value=ref)),
    )  # fmt: skip
    for name, stand_in in stand_ins:
        monkeypatch.setattr(flows, name, stand_in)

    assert (await promote(str(ref), newest=True, return_state=True)).name == ends
    assert [call.kwargs["image"] for call in curated.await_args_list] == ([str(newest)] if is_first else [])


@pytest.mark.parametrize("newest", [True, False])
async def test_push_waits_for_evidence_before_taking_lock(monkeypatch, newest):
    """An image that nobody signs must not hold the lock."""
    ref, steps = ImageRef.parse("dev/hello@sha256:" + "a" * 64), []

    @asynccontextmanager
    async def lock(*_):
        steps.append("lock")
        yield False

    async def waits(_ref, _ports, seconds):
        steps.append(seconds)

    for name, stand_in in (
        ("run_lock", lock), ("next_run_lock", lock), ("await_evidence_step", waits), ("find", Mock(return_value=ref)),
        ("plan_curation_step", AsyncMock(return_value=PlannedPromotion(image=ref, reason="it is released already"))),
    ):  # fmt: skip
        monkeypatch.setattr(flows, name, stand_in)

    assert (await promote(str(ref), newest=newest, return_state=True)).name == "Unneeded"
    assert steps[:2] == [EVIDENCE_WAIT, "lock"]


@pytest.mark.parametrize(
    ("signed", "followed", "age", "ends"),
    [
        (False, False, 20, "leaves its slot"), (False, False, 61, "goes on"), (True, False, 20, "goes on"),
        (False, True, 20, "is left to catch-up runs"), (True, True, 20, "goes on"),
    ],
)  # fmt: skip
async def test_run_for_unsigned_image_leaves_its_slot_for_a_minute(monkeypatch, signed, followed, age, ends):
    """Unsigned images of one team would otherwise take every slot of the queue for pushes."""
    ref, calls = ImageRef.parse("dev/hello@sha256:" + "a" * 64), []

    async def waits(_ref, _ports, seconds):
        calls.append(seconds)
        return signed

    async def leave(why):
        calls.append(why)
        return Pause(state=Scheduled())

    @asynccontextmanager
    async def lock(*_):
        calls.append("lock")
        yield

    for name, stand_in in (
        ("can_wait", lambda: True), ("run_age", AsyncMock(return_value=age)), ("release_slot", leave),
        ("run_lock", lock), ("await_evidence_step", waits), ("find", Mock(return_value=ref)),
        ("plan_curation_step", AsyncMock(return_value=PlannedPromotion(image=ref, reason="it is not signed"))),
    ):  # fmt: skip
        monkeypatch.setattr(flows, name, stand_in)

    with pytest.raises(Pause) if ends == "leaves its slot" else nullcontext():
        state = await promote(str(ref), followed=followed, return_state=True)
        assert ("catch-up runs" in (state.message or "")) is (ends == "is left to catch-up runs")

    assert calls[0] == SOON
    assert ("lock" in calls) is (ends == "goes on")


@pytest.fixture
async def waiting(monkeypatch, tmp_path):
    """Return a promotion that waits for a person on a Prefect server, with the decisions that it signs."""
    ref, signed = ImageRef.parse(IMAGE), []
    due = AsyncMock(return_value=PlannedPromotion(image=ref, to="production", after="staging", awaits_approval=True))

    async def sign(ref, approval, *_, sent):
        assert sent and (datetime.now(UTC) - approval.decided).total_seconds() >= 0
        signed.append((str(ref), approval.environment, approval.digest, approval.decision, approval.by))

    for name, stand_in in (
        ("find", lambda image, *_: ImageRef.parse(image)), ("plan_deployment_step", due),
        ("is_active", AsyncMock(return_value=False)),
        ("sign_approval_step", sign), ("deploy", AsyncMock(return_value=None)),
    ):  # fmt: skip
        monkeypatch.setattr(flows, name, stand_in)
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        async with get_client() as client:
            made = await client.create_deployment(await client.create_flow(promote), "p", parameter_openapi_schema={})
            run = await client.create_flow_run_from_deployment(made, parameters={"image": IMAGE, "after": "staging"})

            async def go_on(**changed):
                paused = await client.read_flow_run(run.id)
                paused.parameters.update(changed)
                with suppress(Pause):
                    await run_flow_async(promote, flow_run=paused, parameters=paused.parameters, return_type="state")
                return present((await client.read_flow_run(run.id)).state).name

            assert await go_on() == "Suspended"
            await aresume_flow_run(run.id, run_input={"approve": False, "by": "bob", "reason": "no"})
            yield SimpleNamespace(go_on=go_on, due=due, signed=signed, image=ref, run=run.id)


NO = (IMAGE, "production", "sha256:" + "a" * 64, "denied", "bob")


async def test_approval_answer_is_signed_if_promotion_is_no_longer_due(waiting):
    """As the latest decision, it overrides an earlier one."""
    waiting.due.return_value = PlannedPromotion(image=waiting.image, reason="curation did not release it")

    assert await waiting.go_on() == "Unneeded"
    assert waiting.signed == [NO]


async def test_approval_answer_is_signed_once(waiting):
    """A repeated run must not override later decisions."""
    waiting.due.return_value = PlannedPromotion(image=waiting.image, to="production", after="staging")

    assert await waiting.go_on() == "Completed"
    assert await waiting.go_on() == "Completed"
    assert waiting.signed == [NO]


async def test_approval_with_blank_reason_is_requested_again(waiting):
    """Prefect accepts a blank reason."""
    async with get_client() as client:
        (sent,) = [
            i for i in await client.filter_flow_run_input(waiting.run, "suspended", 9, set()) if "response" in i.key
        ]
        await client.delete_flow_run_input(waiting.run, sent.key)
        blank = {**orjson.loads(sent.value), "reason": "  "}
        await client.create_flow_run_input(waiting.run, sent.key, orjson.dumps(blank).decode())

    assert await waiting.go_on() == "Suspended"
    assert waiting.signed == []


async def test_approval_answer_is_signed_during_freeze(waiting, make):
    """Afterwards, the run ends as Frozen."""
    await promotion_freeze.set_freeze(PromotionFreeze(by="ann", reason="holidays", since=make.noon))

    assert await waiting.go_on() == "Frozen"
    assert waiting.signed == [NO]


async def test_approval_answer_applies_to_requested_image_only(waiting):
    """Whoever may change the parameters of a run must not transfer the answer."""
    other = waiting.image.model_copy(update={"digest": "sha256:" + "b" * 64})
    waiting.due.return_value = PlannedPromotion(image=other, to="production", after="staging", awaits_approval=True)

    assert await waiting.go_on(image=str(other)) == "Suspended"
    assert waiting.signed == [NO]


@pytest.mark.parametrize(
    ("place", "deny", "notes"),
    [
        ({"approval": "required"}, False, []),
        ({}, False, ["staging requires no approval: there, an approval only overrides an earlier denial"]),
        ({}, True, []),
        (
            {"approval": "required", "applications": {}},
            False,
            ["hello has no address in staging: its images are not deployed there"],
        ),
        ({"applications": {}}, True, []),
        (
            {"approval": "signed"},
            False,
            ["staging counts only approvals that people sign with keys of their own (`cscm approve --key`)"],
        ),
    ],
)
async def test_approve_notes_if_approval_has_no_effect(monkeypatch, caplog, place, deny, notes):
    """A denial always has an effect."""
    environment = DockerEnvironment(
        **{"name": "staging", "applications": {"hello": DockerPlacement(port=8080)}, **place}
    )
    ports = Mock()
    ports.workbench.environment = lambda name: environment
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=ports))
    signed = AsyncMock(side_effect=lambda ref, decision, ports, **_: decision)
    monkeypatch.setattr(flows, "sign_approval_step", signed)
    caplog.set_level("INFO", "supply_chain.steps")

    decision = await approve(IMAGE, "staging", by="ann", reason="so", deny=deny)

    assert present(signed.await_args).args[1] == decision and decision.approved is not deny
    assert [record.getMessage() for record in caplog.records if record.name == "supply_chain.steps"] == [
        f"note: {note}" for note in notes
    ]


async def test_run_of_prefect_deployment_refuses_personal_key(monkeypatch):
    """Its machine is not that person's; without a key it records what was typed."""
    ports = Mock()
    ports.workbench.environment = lambda name: DockerEnvironment(name=name)
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=ports))
    signed = AsyncMock(side_effect=lambda ref, decision, ports, **_: decision)
    monkeypatch.setattr(flows, "sign_approval_step", signed)
    for deployed, key, error in ((None, "ann.key", False), ("1", "", False), ("1", "ann.key", True)):
        monkeypatch.setattr(personal_keys, "deployment", SimpleNamespace(id=deployed))
        with pytest.raises(DeclarationInvalid, match="cscm approve --key") if error else nullcontext():
            await approve(IMAGE, "staging", by="ann", reason="so", key=key)

    assert [each.kwargs["key"] for each in signed.await_args_list] == ["ann.key", ""]


async def test_decision_about_missing_image_is_not_signed(monkeypatch):
    """It would have no effect, and somebody would wait for it."""
    monkeypatch.setattr(flows, "find_stored", Mock(side_effect=ImageNotFound("curated/hello does not have it")))
    signed = AsyncMock()
    monkeypatch.setattr(flows, "sign_approval_step", signed)

    with pytest.raises(ImageNotFound):
        await approve(IMAGE, "staging", by="ann", reason="so")

    assert not signed.await_count
