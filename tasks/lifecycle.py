"""Tasks of the lifecycle: plan expiry, archiving and blocks, apply a plan, and sign decisions on an image."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from uuid import UUID, uuid5

from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import RUN_ID, TASK_SOURCE
from prefect.runtime import task_run

from blocks import Inventory
from blocks.hosts import load_hosts
from blocks.lifecycle_ports import LifecyclePorts
from orchestration.clock import read_clock
from orchestration.events import emit
from orchestration.steps import run_in_thread, step
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.image_status import LIFTS, Act, LifecycleDecision
from supply_chain.fleet.image import FleetImage
from supply_chain.lifecycle.apply import Entry, apply, find_bases_in_use, find_needed
from supply_chain.lifecycle.blocked_images import ArchivedImages, archive_blocked_images
from supply_chain.lifecycle.decisions import UNCHANGED, DecisionResult, decide, sign_plan_answer
from supply_chain.lifecycle.plan import Plan
from supply_chain.lifecycle.planning import plan_lifecycle
from supply_chain.lifecycle.preconditions import InUse
from supply_chain.model.image import Digest, ImageRef
from supply_chain.policy.people import make_uncounted_error, sign_as_person
from supply_chain.reports import plan_rows


# a run that continues after a suspension reuses its earlier result
@step("plan the lifecycle", run_name="plan by {rules}", cache_policy=RUN_ID + TASK_SOURCE, persist_result=True)
async def plan_step(rules: str, ports: LifecyclePorts) -> Plan:
    """Plan by the rules, publish the plan as a table, and return it. Nothing is changed."""
    rule_set, images = ports.workbench.rules(rules), await _read_images()
    plan = await run_in_thread(
        lambda: plan_lifecycle(ports.reader.read_snapshot(images, read_clock()), rule_set, read_clock())
    )
    await acreate_table_artifact(key="lifecycle-plan", table=plan_rows(plan), description=f"By {rules}: {plan}")
    return plan


async def _read_images() -> tuple[FleetImage, ...]:
    """Return the images that the inventory knows; the lifecycle gets them only from here."""
    inventory: Inventory = await Inventory.aload("inventory")
    return await run_in_thread(lambda: tuple(image.keep_exploited_findings() for image in inventory.open().images()))


@step("find running images")
async def find_needed_step(plan: Plan, ports: LifecyclePorts) -> tuple[InUse, Mapping[str, SupplyChainError]]:
    """Return what runs on all hosts, and what should run or a rollback may need by what execution signed.

    The second value is of environments of which nobody knows where they are: name → why. Nothing may be removed then.
    """
    documents = ports.workbench.environment_documents()
    unknown = await run_in_thread(ports.workbench.unknown_environments, documents)
    hosts = await load_hosts(documents.readable, ports.tier.session)
    return await run_in_thread(find_needed, plan, ports.reader, hosts, unknown), unknown


@step("find used bases")
def find_bases_step(plan: Plan, ports: LifecyclePorts) -> frozenset[Digest]:
    """Return the bases of all images that exist and are not removed."""
    return find_bases_in_use(plan, ports.reader)


@step("apply the plan", run_name="apply in {repository}")
def apply_step(
    plan: Plan, repository: str, in_use: InUse, bases: Collection[Digest], ports: LifecyclePorts
) -> tuple[Entry, ...]:
    """Apply the plan to one repository, as far as the preconditions of its steps still hold."""

    def block(ref: ImageRef, rule: str, reason: str) -> None:
        decide(
            ref,
            Act.BLOCK,
            ports.decision_ports,
            by=f"the rules {plan.rules}",
            reason=reason,
            now=read_clock(),
            rule=rule,
            only_sign=True,
            on_result=_emit,
        )

    journal = ports.journal(plan)
    return apply(plan, repository, in_use, bases, ports.repositories, ports.reader, block, journal)


@step("sign the answer to the plan")
def sign_plan_answer_step(plan: Digest, yes: bool, by: str, reason: str, ports: LifecyclePorts) -> None:
    """Sign a person's answer to a plan that is above its limits; a click in the UI alone does not count."""
    sign_plan_answer(plan, yes, ports.evidence, ports.repositories, by=by, reason=reason, now=read_clock())


@step("decide", run_name="{act} {ref.application}")
def decide_step(ref: ImageRef, act: Act, by: str, reason: str, ports: LifecyclePorts, key: str = "") -> DecisionResult:
    """Sign a person's decision about an image, and carry out its immediate consequences.

    With a `key`, the person signs it first; raise `DeclarationInvalid` if that would not count, or if there is no key
    and only a signed decision would count.
    """
    if not key and act in LIFTS and ports.workbench.lifting_decisions == "signed":
        raise make_uncounted_error(
            "the workbench block lets only a signed decision end a block or a hold (`--key REF`)"
        )

    def sign(decision: LifecycleDecision) -> LifecycleDecision:
        if not key:
            return decision
        image = ImageRef.parse(decision.image)
        as_person, people = partial(ports.workbench.sign_as_person, key), ports.workbench.people
        return sign_as_person(
            decision, image, people().installation, as_person,
            lambda signed: people().explain_uncounted_decision(signed, image.digest),
        )  # fmt: skip

    return decide(ref, act, ports.decision_ports, by=by, reason=reason, now=read_clock(), sign=sign, on_result=_emit)


@step("archive blocked images")
def archive_blocked_step(ports: LifecyclePorts) -> ArchivedImages:
    """Archive blocked images that can be pulled again, under whatever name."""
    return archive_blocked_images(ports.repositories, ports.evidence, ports.reader)


def _emit(result: DecisionResult) -> None:
    """Emit an event for a decision, for those who have to respond to it.

    A hold that existed already is not emitted again. A block is: an earlier run may have signed it and then been
    killed before it emitted the event. If the step is retried, the event has the same id.
    """
    if not result.changed and result.act not in (Act.BLOCK, Act.UNBLOCK):
        return
    emit(
        {
            Act.BLOCK: "image.blocked",
            Act.UNBLOCK: "image.unblocked",
            Act.HOLD: "image.held",
            Act.UNHOLD: "image.unheld",
        }[result.act],
        result.ref,
        None,
        _event_id(result),
        by=result.by,
        reason=result.reason,
        unchanged="" if result.changed else UNCHANGED[result.act],
        running=None if result.running_unknown else [each.model_dump() for each in result.running],
    )


def _event_id(result: DecisionResult) -> UUID | None:
    """Return the id of the event, by which Prefect recognises the events of a step's retries as one."""
    return uuid5(UUID(task_run.id), f"{result.act} {result.ref}") if task_run.id else None
