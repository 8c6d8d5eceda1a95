"""The tasks of the lifecycle: what they read and report, and which image a person means."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect import Task

from flows import lifecycle as flows
from supply_chain.errors import (
    AwsFailed,
    DeclarationInvalid,
    EvidenceInvalid,
    PlanUnfinished,
)
from supply_chain.evidence.image_status import Act, PlanAct, read_decisions, read_image_status
from supply_chain.evidence.statement import LIFECYCLE
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.lifecycle.apply import Applied, Outcome
from supply_chain.lifecycle.decisions import UNCHANGED, DecisionResult
from supply_chain.lifecycle.preconditions import InUse
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.people import FILE, read_people
from tasks import lifecycle
from tests.support.builders import NOON
from tests.support.lifecycle_place import place
from tests.support.people import Office
from tests.support.snapshots import NOW, ref

__all__ = ["place"]  # a fixture
TASKS = (
    lifecycle.plan_step,
    lifecycle.find_needed_step,
    lifecycle.find_bases_step,
    lifecycle.apply_step,
    lifecycle.decide_step,
    lifecycle.sign_plan_answer_step,
)


@pytest.fixture
def unreadable(place):
    """Make a deployment record of another application unreadable."""
    deployments = place.deployments

    def read(application):
        if application is None:
            raise EvidenceInvalid("a record of shop\nread it")
        return deployments(application)

    place.deployments = read


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_lifecycle_task_has_retries(task):
    """A throttled request is no answer."""
    assert isinstance(task, Task)
    assert task.retries and task.retry_condition_fn


def test_plan_is_made_once_per_flow_run():
    """A run that waited for approval continues with the approved plan."""
    one, other = uuid4(), uuid4()

    def key(run):
        context: Any = SimpleNamespace(task=lifecycle.plan_step, task_run=SimpleNamespace(id=uuid4(), flow_run_id=run))
        return lifecycle.plan_step.cache_policy.compute_key(task_ctx=context, inputs={}, flow_parameters={})

    assert lifecycle.plan_step.persist_result
    assert key(one) == key(one) != key(other)


async def test_plan_covers_known_images(place, monkeypatch):
    """The key of its table is stable."""

    async def read_images():
        return place.snapshot.images

    monkeypatch.setattr(lifecycle, "_read_images", read_images)
    found = await lifecycle.plan_step.fn("nightly", place.ports)

    assert found.digest == place.plan.digest
    table, description = place.tables["lifecycle-plan"]
    assert len(table) == 4 and description == f"By nightly: {found}"
    assert place.calls == []


async def test_known_images_reads_all_images_of_inventory(monkeypatch):
    """The images are read through the block, without details."""

    async def load(name):
        inventory = SimpleNamespace(images=lambda: iter([SimpleNamespace(keep_exploited_findings=lambda: name)]))
        return SimpleNamespace(open=lambda: inventory)

    monkeypatch.setattr(lifecycle, "Inventory", SimpleNamespace(aload=load))

    found: Any = await lifecycle._read_images()
    assert found == ("inventory",)


async def carried_out(place):
    """Carry out the plan, publish the result and return it."""
    in_use, unknown = await lifecycle.find_needed_step.fn(place.plan, place.ports)
    assert unknown == {}
    bases = await lifecycle.find_bases_step.fn(place.plan, place.ports)
    assert (in_use, bases) == (InUse(digests=frozenset(), unobserved=()), frozenset())
    (repository,) = place.plan.repositories
    entries = await lifecycle.apply_step.fn(place.plan, repository, in_use, bases, place.ports)
    applied = Applied(plan=place.plan.digest, entries=entries)
    await flows._publish(applied, place.plan)
    return applied.require_finished()


async def test_plan_is_applied_and_reported(place):
    """A block by a rule is signed in the name of the rules and reported like any block."""
    applied = await carried_out(place)

    assert str(applied) == "2 done, 0 skipped, 0 failed"
    assert place.tables["lifecycle-applied"][1] == f"By nightly: {applied}"
    reading = read_image_status(ref(2), place.world.store(TierName.EXECUTION))
    (decision,) = (each.value for each in read_decisions(reading.evidence))
    assert (decision.by, decision.rule) == ("the rules nightly", place.plan.step(ref(2)).rule)
    ((event, where, payload),) = place.events
    assert (event, where, payload["by"]) == ("image.blocked", ref(2), "the rules nightly")
    assert [path.name for path in place.journals.iterdir()] == [f"{place.plan.digest[7:]}.journal"]


async def test_environments_whose_place_is_unknown_are_no_hosts(place, monkeypatch):
    """Both are read from the same documents; the hosts of the others are observed."""
    error = DeclarationInvalid("its host is wrong\ncorrect it")
    documents = EnvironmentDocuments((DockerEnvironment(name="staging"),), {"broken": error})
    loaded: list[str] = []

    async def load_hosts(environments, session):
        loaded.extend(each.name for each in environments)
        return {}

    monkeypatch.setattr(lifecycle, "load_hosts", load_hosts)
    place.ports.workbench.environment_documents = lambda: documents
    place.ports.workbench.unknown_environments = lambda found: {**found.unreadable}

    in_use, unknown = await lifecycle.find_needed_step.fn(place.plan, place.ports)

    assert (loaded, unknown) == (["staging"], {"broken": error})
    assert in_use.unobserved == ("broken: its host is wrong",)


async def test_failed_step_fails_run_with_each_code(place):
    """The table is published before."""
    place.refuses[ref(1)] = "KmsError"

    with pytest.raises(PlanUnfinished, match=r"1 of the 2 steps of the plan sha256:\w{12} failed: KmsError"):
        await carried_out(place)

    assert place.tables["lifecycle-applied"][0][0]["code"] == "KmsError"


async def test_plan_approval_is_signed_with_name_and_reason(place):
    """The statement is about the digest of the plan."""
    await lifecycle.sign_plan_answer_step.fn(place.plan.digest, True, "ann", "looked at it", place.ports)

    where = ImageRef(repository="evidence/lifecycle/plans", digest=place.plan.digest)
    (decision,) = read_decisions(
        place.world.store(TierName.EXECUTION).read_verified(where, TierName.LIFECYCLE, LIFECYCLE)
    )
    assert (decision.value.act, decision.value.by, decision.value.reason) == (PlanAct.APPROVE, "ann", "looked at it")


@pytest.mark.parametrize(("act", "event"), [
    (Act.BLOCK, "image.blocked"), (Act.UNBLOCK, "image.unblocked"), (Act.HOLD, "image.held"),
    (Act.UNHOLD, "image.unheld"),
])  # fmt: skip
def test_lifecycle_decision_emits_event(place, act, event):
    """An unchanged hold is not repeated, but a block may have been signed by a failed attempt."""
    result = DecisionResult(ref=ref(1), act=act, by="ann", reason="x", at=NOW, changed=True)
    lifecycle._emit(result)
    lifecycle._emit(result.model_copy(update={"changed": False}))

    again = ["", UNCHANGED[act]] if act in (Act.BLOCK, Act.UNBLOCK) else [""]
    payload = {"by": "ann", "reason": "x", "running": []}
    assert place.events == [(event, ref(1), {**payload, "unchanged": unchanged}) for unchanged in again]


async def test_hold_is_signed_and_emits_event(place):
    """The statement names the person who asked for it."""
    result = await lifecycle.decide_step.fn(ref(1), Act.HOLD, "ann", "audit", place.ports)

    assert result.changed and place.events[0][0] == "image.held"


@pytest.mark.parametrize(("by", "act"), [("ann", Act.BLOCK), ("bob", Act.BLOCK), ("ann", Act.HOLD)])
async def test_decision_with_a_key_is_signed_by_its_person_first(place, tmp_path, world, by, act):
    """One by another person, or by somebody who may not, is not part of the evidence."""
    office = Office(tmp_path)
    office.may = {"block": True}
    office.write_people(at=NOON)
    place.ports.workbench.people = lambda: read_people(tmp_path / FILE, office.people_owner, NOON)
    place.ports.workbench.sign_as_person = lambda key, statement: bytes(office.ann.sign(statement))
    decided = lifecycle.decide_step.fn(ref(1), act, by, "audit", place.ports, "ann.key")

    if (by, act) == ("ann", Act.BLOCK):
        assert (await decided).changed
        (found,) = read_decisions(read_image_status(ref(1), world.store(TierName.LIFECYCLE)).evidence)
        assert place.ports.workbench.people().explain_uncounted_decision(found.value, ref(1).digest) == ""
        return
    with pytest.raises(DeclarationInvalid, match="ann may not hold" if by == "ann" else "not signed with a key of bob"):
        await decided
    assert read_image_status(ref(1), world.store(TierName.LIFECYCLE)).evidence == ()


@pytest.mark.parametrize("act", Act)
async def test_lift_without_a_key_is_refused_if_only_signed_ones_count(place, world, act):
    """It would have no effect; a block and a hold make things safer."""
    place.ports.workbench.lifting_decisions = "signed"
    decided = lifecycle.decide_step.fn(ref(1), act, "ann", "audit", place.ports)

    if act in (Act.BLOCK, Act.HOLD):
        assert (await decided).changed
        return
    with pytest.raises(DeclarationInvalid, match="--key REF"):
        await decided
    assert read_image_status(ref(1), world.store(TierName.LIFECYCLE)).evidence == ()


async def test_block_emits_event_even_if_archiving_fails(place):
    """An image that is being restored cannot be archived yet, so the run fails after the event."""
    place.broken[ref(1)] = AwsFailed("not now\nwait")
    for _ in range(2):
        with pytest.raises(AwsFailed):
            await lifecycle.decide_step.fn(ref(1), Act.BLOCK, "ann", "CVE-2026-1", place.ports)

    assert [each[:2] for each in place.events] == [("image.blocked", ref(1))] * 2
    reading = read_image_status(ref(1), place.world.store(TierName.EXECUTION))
    assert len(read_decisions(reading.evidence)) == 1


async def test_block_event_distinguishes_unknown_from_no_deployments(place, unreadable):
    """An empty list would mean that nothing runs."""
    result = await lifecycle.decide_step.fn(ref(1), Act.BLOCK, "ann", "CVE-2026-1", place.ports)

    assert "a record of shop" in result.running_unknown
    assert [each[2]["running"] for each in place.events] == [None]


async def test_block_by_plan_archives_image_if_deployments_are_unreadable(place, unreadable):
    """The statement is already signed and is reported."""
    (repository,) = place.plan.repositories
    entries = await lifecycle.apply_step.fn(
        place.plan, repository, InUse(digests=frozenset(), unobserved=()), (), place.ports
    )

    assert {each.outcome for each in entries} == {Outcome.DONE}
    assert ("archive", ref(2)) in place.calls
    assert [each[:2] for each in place.events] == [("image.blocked", ref(2))]
