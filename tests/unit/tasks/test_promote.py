"""The tasks of promote: decisions of a person, plans, and waiting for evidence."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from supply_chain.errors import DeclarationInvalid, EvidenceInvalid, SettingInvalid
from supply_chain.evidence.approval import Approval, find_last_approval, list_signed_approvals
from supply_chain.evidence.break_glass import BreakGlass, list_break_glass_uses
from supply_chain.evidence.statement import APPROVAL, BREAK_GLASS, PROVENANCE, Statement
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.people import FILE, read_people
from supply_chain.policy.reading import read_execution_statements
from supply_chain.promotion.planned_promotion import PlannedPromotion
from supply_chain.promotion.soaking import continue_soak
from tasks import promote
from tests.support.builders import NOON, OTHER
from tests.support.observations import look
from tests.support.people import Office
from tests.support.policies import POLICIES
from tests.support.present import present

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


async def test_later_decision_has_later_time_despite_clock_skew(world, make, monkeypatch):
    """With two differing clocks, a denial could otherwise seem older than the approval."""
    monkeypatch.setattr(promote, "emit", lambda *_, **__: None)
    monkeypatch.setattr(promote, "is_recorded", lambda event_uuid: False)
    world.now = make.noon + timedelta(minutes=4)
    store = world.store(TierName.EXECUTION)
    ports: Any = SimpleNamespace(repositories=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=store)
    for decision, minutes in (("approved", 3), ("denied", 0)):
        approval = Approval(
            environment="staging", digest=REF.digest, decision=decision, by="ann", reason="so",
            decided=make.noon + timedelta(minutes=minutes),
        )  # fmt: skip
        await promote.sign_approval_step.fn(REF, approval, ports)

    last = present(find_last_approval(read_execution_statements(REF, store, APPROVAL), "staging", REF.digest))
    assert last.value.decision == "denied" and last.at > make.noon + timedelta(minutes=3)


@pytest.mark.parametrize("decided", ["approved", "denied"])
async def test_denial_ends_break_glass_despite_clock_skew(world, monkeypatch, decided):
    """The clock of whoever broke the glass was ahead. An approval ends nothing, and keeps its time."""
    monkeypatch.setattr(promote, "emit", lambda *_, **__: None)
    monkeypatch.setattr(promote, "is_recorded", lambda event_uuid: False)
    world.now, store = NOON + timedelta(minutes=1), world.store(TierName.EXECUTION)
    ports: Any = SimpleNamespace(repositories=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=store)
    use = BreakGlass(
        environment="production", digest=REF.digest, by="ann", reason="outage", at=NOON + timedelta(minutes=4),
        expires=NOON + timedelta(hours=1),
    )  # fmt: skip
    store.attach(REF.with_repository("evidence/execution/hello"), BREAK_GLASS, use.predicate(), use.at)
    decision = Approval(
        environment="production", digest=REF.digest, decision=decided, by="bob", reason="so", decided=NOON
    )

    signed = await promote.sign_approval_step.fn(REF, decision, ports)

    found = list_break_glass_uses(
        read_execution_statements(REF, store, APPROVAL, BREAK_GLASS), "production", REF.digest
    )
    assert found == (() if decided == "denied" else (use,))
    assert signed.decided == (use.at if decided == "denied" else NOON)


@pytest.mark.parametrize("by", ["ann", "bob"])
async def test_decision_is_signed_by_its_person_first(world, make, monkeypatch, tmp_path, by):
    """One that would not count is refused, and is not part of the evidence."""
    monkeypatch.setattr(promote, "emit", lambda *_, **__: None)
    monkeypatch.setattr(promote, "is_recorded", lambda event_uuid: False)
    world.now = make.noon
    office = Office(tmp_path)
    office.write_people()
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    store, asked = world.store(TierName.EXECUTION), []

    def sign(key: str, statement: Statement) -> bytes:
        asked.append(key)
        return bytes(office.ann.sign(statement))

    ports: Any = SimpleNamespace(
        repositories=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=store,
        workbench=SimpleNamespace(people=lambda: people, sign_as_person=sign),
    )  # fmt: skip
    decision = Approval(
        environment="production", digest=REF.digest, decision="approved", by=by, reason="so", decided=make.noon
    )

    if by == "bob":
        with pytest.raises(DeclarationInvalid, match="not signed with a key of bob"):
            await promote.sign_approval_step.fn(REF, decision, ports, key="ann.key")
        assert read_execution_statements(REF, store, APPROVAL) == ()
    else:
        signed = await promote.sign_approval_step.fn(REF, decision, ports, key="ann.key")
        (found,) = list_signed_approvals(read_execution_statements(REF, store, APPROVAL), "production", REF.digest)
        assert found == signed and people.find_approvers([found], REF) == ("ann",)
    assert asked == ["ann.key"]


@pytest.mark.parametrize("denied", [None, -1, 1])
@pytest.mark.parametrize("by", ["ann", "bob"])
async def test_break_glass_is_signed_by_its_person_first(world, monkeypatch, tmp_path, by, denied):
    """It gets a later time than a denial, even if the clock is behind; one without effect is not signed."""
    emitted = []
    monkeypatch.setattr(promote, "emit", lambda event, *_, **payload: emitted.append((event, payload)))
    office = Office(tmp_path)
    office.write_people()
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    store, where = world.store(TierName.EXECUTION), REF.with_repository("evidence/execution/hello")
    world.now = NOON
    if denied is not None:
        no = Approval(
            environment="production", digest=REF.digest, decision="denied", by="bob", reason="no",
            decided=NOON + timedelta(minutes=denied),
        )  # fmt: skip
        store.attach(where, APPROVAL, no.predicate(), no.decided)
    ports: Any = SimpleNamespace(
        repositories=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=store,
        workbench=SimpleNamespace(people=lambda: people, sign_as_person=lambda key, each: bytes(office.ann.sign(each))),
    )  # fmt: skip
    use = BreakGlass(
        environment="production", digest=REF.digest, by=by, reason="outage", at=NOON,
        expires=NOON + timedelta(hours=1),
    )  # fmt: skip

    if by == "bob":
        with pytest.raises(DeclarationInvalid, match="not signed with a key of bob"):
            await promote.sign_break_glass_step.fn(REF, use, ports, "ann.key")
        assert read_execution_statements(REF, store, BREAK_GLASS) == () and not emitted
        return
    signed = await promote.sign_break_glass_step.fn(REF, use, ports, "ann.key")
    found = list_break_glass_uses(
        read_execution_statements(REF, store, APPROVAL, BREAK_GLASS), "production", REF.digest
    )
    assert found == (signed,) and people.find_break_glass(found, REF) == found
    assert signed.at == (NOON + timedelta(minutes=1, microseconds=1) if denied == 1 else NOON)
    payload = {"environment": "production", "by": "ann", "until": "2026-11-24T13:00:00+00:00", "reason": "outage"}
    assert emitted == [("image.break-glass", payload)]


@pytest.mark.parametrize(("changes", "deployed", "goes"), [
    ({}, REF.digest, True), ({"digest": OTHER}, REF.digest, False), (None, REF.digest, False), (None, OTHER, True),
])  # fmt: skip
async def test_unhealthy_soaked_image_does_not_move(monkeypatch, changes, deployed, goes):
    """An approval may take days; the state of another image in its place does not matter."""
    promotion = PlannedPromotion(image=REF, to="production", after="staging")
    soaking = None if changes is None else continue_soak(None, look(0, expected_digest=REF.digest, running=REF.digest))
    monkeypatch.setattr(promote, "plan_promotion_to_environment", lambda *_: promotion)
    monkeypatch.setattr(promote, "find_missed_deployments", lambda *_: (promotion,))
    runs = SimpleNamespace(environment="staging", application="hello", digest=deployed)
    monkeypatch.setattr(promote, "read_expected", lambda *_: (runs,))
    monkeypatch.setattr(promote, "read_soaking", AsyncMock(return_value=soaking and soaking.model_copy(update=changes)))
    documents = EnvironmentDocuments((), {})
    workbench = SimpleNamespace(
        environment=None, environment_documents=lambda: documents, policies=lambda: POLICIES
    )  # fmt: skip
    ports: Any = SimpleNamespace(
        name=TierName.EXECUTION, repositories=None, registry=None, evidence=None, workbench=workbench
    )

    due = await promote.plan_deployment_step.fn(REF, "staging", ports)

    assert bool(due.to) is goes and await promote.find_missed_step.fn(ports) == ((promotion,) if goes else ())
    assert goes or due.reason == "it was not healthy in staging at the last observation"


async def test_invalid_environment_does_not_hide_other_deployments(monkeypatch):
    """Records are read without documents; to the invalid one nothing is promoted."""
    asked: list[Any] = []
    error = SettingInvalid("it is bad\ncorrect it")
    documents = EnvironmentDocuments((DockerEnvironment(name="staging"),), {"broken": error})
    runs = SimpleNamespace(environment="broken", application="hello", digest=OTHER)

    def read(names, *_):
        asked.append(names)
        return (runs,)

    monkeypatch.setattr(promote, "read_expected", read)
    workbench = SimpleNamespace(environment=None, environment_documents=lambda: documents, policies=lambda: POLICIES)
    ports: Any = SimpleNamespace(repositories=None, registry=None, evidence=None, workbench=workbench)

    sources = promote._sources(ports)

    assert sources.current("hello", "broken") == REF.with_digest(OTHER) and asked == [("broken", "staging")]
    assert sources.invalid == {"broken": error}


async def test_unreadable_records_of_one_application_do_not_affect_others(monkeypatch):
    """What should run is read for each application alone, and once."""
    asked = []

    def read(*given):
        asked.append(given[-1])
        if given[-1] == "hat":
            raise EvidenceInvalid("its record is damaged")
        return (SimpleNamespace(environment="staging", application=given[-1], digest=OTHER),)

    monkeypatch.setattr(promote, "read_expected", read)
    documents = EnvironmentDocuments((DockerEnvironment(name="staging"),), {})
    workbench = SimpleNamespace(environment=None, environment_documents=lambda: documents, policies=lambda: POLICIES)
    ports: Any = SimpleNamespace(repositories=None, registry=None, evidence=None, workbench=workbench)
    sources = promote._sources(ports)

    with pytest.raises(EvidenceInvalid):
        sources.current("hat", "staging")
    assert [sources.current("hello", each) for each in ("staging", "production")] == [REF.with_digest(OTHER), None]
    assert asked == ["hat", "hello"]


async def test_signed_decision_without_event_emits_it_once(world, make, monkeypatch):
    """Its run was killed in between and runs again."""
    emitted = []
    monkeypatch.setattr(promote, "emit", lambda event, ref, source, event_uuid, **_: emitted.append(event_uuid))
    monkeypatch.setattr(promote, "is_recorded", lambda event_uuid: event_uuid in emitted)
    store = world.store(TierName.EXECUTION)
    ports: Any = SimpleNamespace(repositories=SimpleNamespace(ensure_repository=lambda *_, **__: None), evidence=store)
    approval = Approval(
        environment="staging", digest=REF.digest, decision="approved", by="ann", reason="so", decided=make.noon
    )
    store.attach(REF.with_repository("evidence/execution/hello"), APPROVAL, approval.predicate(), make.noon)

    for _ in range(2):
        await promote.sign_approval_step.fn(REF, approval, ports, sent=True)

    assert len(emitted) == 1 and len(read_execution_statements(REF, store, APPROVAL)) == 1


@pytest.mark.parametrize(("comes", "at"), [(0, 0), (20, 20), (None, 60)])
async def test_wait_for_evidence_is_limited_to_a_minute(world, monkeypatch, comes, at):
    """A slow registry must not extend the wait."""
    ref, clock = ImageRef(repository="dev/hello", digest=OTHER), [0]
    development, curation = world.store(TierName.DEVELOPMENT), world.store(TierName.CURATION)

    def later(seconds):
        clock[0] += seconds
        if (
            comes is not None
            and clock[0] >= comes
            and not curation.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE)
        ):
            development.attach(ref, PROVENANCE, {}, world.now)

    def look(*about):
        later(18)
        return curation.read_verified(*about)

    def plan(*_):
        later(0)
        return PlannedPromotion(
            image=ref, awaits_evidence=not curation.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE)
        )

    monkeypatch.setattr(promote, "plan_promotion_to_curation", plan)
    monkeypatch.setattr(promote, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(asyncio, "sleep", AsyncMock(side_effect=later))

    ports: Any = SimpleNamespace(repositories=None, evidence=SimpleNamespace(read_verified=look))
    signed = await promote.await_evidence_step.fn(ref, ports, 60)

    assert at <= clock[0] < at + 20
    assert signed is (comes is not None)
