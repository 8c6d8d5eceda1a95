"""Flows `promote` and `approve`: promote one image through its next gate, and sign an approval decision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

from prefect import flow, get_run_logger
from prefect.runtime import deployment

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from flows.curate import curate
from flows.deploy import deploy
from orchestration.approvals import forget_answer, read_answers, request_approval
from orchestration.clock import read_clock
from orchestration.locks import LockKind, lock_name, next_run_lock, run_lock
from orchestration.personal_keys import require_own_machine
from orchestration.promotion_freeze import find_active_freeze
from orchestration.promotions import is_active
from orchestration.run_names import name_run_by_image
from orchestration.run_report import log
from orchestration.run_states import UNNEEDED, complete_as, complete_frozen, complete_refused
from orchestration.steps import run_in_thread
from orchestration.waiting_runs import SOON, can_wait, release_slot, run_age
from supply_chain.errors import SettingInvalid
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.personal_decision import Words
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.environment import Environment
from supply_chain.fleet.find import find, find_stored
from supply_chain.model.image import ImageRef, ReleasedImage
from supply_chain.model.tier import CURATED, OFFERED
from supply_chain.policy.outcome import Refused
from supply_chain.promotion.coalescing import EVIDENCE_WAIT
from supply_chain.promotion.freeze import PromotionFreeze
from supply_chain.promotion.planned_promotion import PlannedPromotion, make_empty_promotion
from supply_chain.text import sanitize_text, summarize_error
from tasks.promote import await_evidence_step, plan_curation_step, plan_deployment_step, sign_approval_step

CHAIN_WAIT = 2 * 3600
"""Seconds that a promotion waits for a chain of the same application, which promotes its image itself."""


@flow(name="promote", flow_run_name=name_run_by_image)
async def promote(
    image: str, after: str | None = None, newest: bool = False, followed: bool = False
) -> ReleasedImage | Deployment | Refused | PlannedPromotion | PromotionFreeze:
    """Promote one image through its next gate: an offered image to curation, a curated one to its next environment.

    If there is nothing to do, the run ends as Unneeded with the reason, for example after a repeated or late event.
    During a promotion freeze it ends as Frozen; after the freeze, the next catch-up starts it again.

    Args:
        image: The offered image (dev/hello@sha256:…) or the released image (curated/hello@sha256:…).
        after: The environment in which a curated image soaked. If empty, it goes to the first that it declares.
        newest: Take the newest offered image of the application instead, because one push covers all before it.
        followed: End if the image is not signed soon, because catch-up runs look for its evidence too.
    """
    await _sign_answers(image)
    if freeze := await find_active_freeze():
        return complete_frozen(freeze)
    return await (_to_curation(image, newest, followed) if image.startswith(OFFERED) else _to_environment(image, after))


async def _to_curation(
    image: str, newest: bool, followed: bool
) -> ReleasedImage | Refused | PlannedPromotion | PromotionFreeze:
    ports = await CurationPorts.aload()
    ref = await run_in_thread(find, image, OFFERED, ports.repositories)
    if not await _await_evidence(ref, ports, followed):
        return _unneeded(
            make_empty_promotion(ref, "development has not signed it yet; catch-up runs look for its evidence")
        )
    name = lock_name(LockKind.PROMOTE, ref.application)
    if not newest:
        async with run_lock(name, CHAIN_WAIT):
            return await _curate(ref, newest, ports)
    async with next_run_lock(name, CHAIN_WAIT) as is_first:
        if is_first:
            return await _curate(ref, newest, ports)
    return _unneeded(
        make_empty_promotion(ref, "another run waits already and will promote the newest image of this application")
    )


async def _await_evidence(ref: ImageRef, ports: CurationPorts, followed: bool) -> bool:
    """Wait until an image is signed, at most `EVIDENCE_WAIT` seconds after the run was created.

    Return whether this run goes on; if `followed`, it does not once the image is not signed soon. An unsigned image
    delays nobody: no lock is taken before, and the run soon leaves its slot in the work queue.
    """
    if not can_wait():
        await await_evidence_step(ref, ports, EVIDENCE_WAIT)
    elif not await await_evidence_step(ref, ports, SOON):
        if followed:
            return False
        if await run_age() < EVIDENCE_WAIT:
            raise await release_slot(f"{ref} is not signed yet; this run waits without a slot in its work queue")
    return True


async def _curate(
    ref: ImageRef, newest: bool, ports: CurationPorts
) -> ReleasedImage | Refused | PlannedPromotion | PromotionFreeze:
    async with run_lock(lock_name(LockKind.CURATE, ref.application)):
        promotion = await plan_curation_step(ref, ports, newest=newest)  # an earlier holder may have decided
        if not promotion.to:
            return _unneeded(promotion)
        if freeze := await find_active_freeze():  # it may have begun during the wait
            return complete_frozen(freeze)
        result = await curate(image=str(promotion.image))
    return complete_refused(result) if isinstance(result, Refused) else result


async def _to_environment(image: str, after: str | None) -> Deployment | Refused | PlannedPromotion | PromotionFreeze:
    ports = await ExecutionPorts.aload()
    ref = await run_in_thread(find, image, CURATED, ports.repositories)
    async with run_lock(lock_name(LockKind.PROMOTE, ref.application), CHAIN_WAIT):
        # An image admitted just now may not be signed yet; a soaked one was signed long before.
        async with run_lock(lock_name(LockKind.CURATE, ref.application)) if after is None else nullcontext():
            promotion = await plan_deployment_step(ref, after, ports)
        if not promotion.to:
            return _unneeded(promotion)
        if freeze := await find_active_freeze():  # it may have begun during the wait
            return complete_frozen(freeze)
        if promotion.awaits_approval and deployment.id:  # other runs cannot be resumed, so the gate refuses
            if await is_active(promotion):
                return _unneeded(promotion.model_copy(update={"reason": "another run already asks for the approval"}))
            await request_approval(promotion)
        return await _deploy(ref, promotion, ports)


async def _deploy(
    ref: ImageRef, request: PlannedPromotion, ports: ExecutionPorts
) -> Deployment | Refused | PlannedPromotion | PromotionFreeze:
    """Make a promotion, unless somebody deployed or decided something else while it waited for its lock."""
    async with run_lock(lock_name(LockKind.DEPLOY, request.to, ref.application)):
        promotion = await plan_deployment_step(ref, request.after, ports)
        if not promotion.to:
            return _unneeded(promotion)
        if freeze := await find_active_freeze():
            return complete_frozen(freeze)
        result = await deploy(image=str(ref), environment=promotion.to)
    return complete_refused(result) if isinstance(result, Refused) else result


async def _sign_answers(image: str) -> None:
    """Sign a person's answer in this run's form, with the time at which it was sent, whatever promotion is due now."""
    for key, approval in (await read_answers()).items():
        ports = await ExecutionPorts.aload()
        ref = await run_in_thread(find, image, CURATED, ports.repositories)
        await sign_approval_step(ref.with_digest(approval.digest), approval, ports, sent=True)
        await forget_answer(key)


def _unneeded(promotion: PlannedPromotion) -> PlannedPromotion:
    """Return the result of a run that had nothing to do: the planned promotion, which contains the reason."""
    why = sanitize_text(f"{promotion.image.repository}@{promotion.image.short}: {promotion.reason}")
    get_run_logger().info("%s", why)
    return complete_as(UNNEEDED, why, promotion)


@flow(name="approve", flow_run_name=name_run_by_image)
async def approve(
    image: str, environment: str, by: Words, reason: Words, deny: bool = False, key: str = ""
) -> Approval:
    """Sign a person's approval or denial of a curated image in an environment, before a promotion asks for it.

    Args:
        image: The image that curation signed: curated/hello@sha256:… or only its digest.
        environment: The environment to decide about: the name of a document in deployments/environments.
        by: Your name. Without a key it is recorded as you write it, and is not verified.
        reason: The reason, in one sentence. It is part of the signed statement.
        deny: Deny the deployment. A denial overrides an earlier approval.
        key: Your own key, as cosign names it; this machine has to be able to use it. If empty, nobody verifies the
            name.
    """
    require_own_machine(key, "approve")
    ports = await ExecutionPorts.aload()
    document = ports.workbench.environment(environment)
    ref = await run_in_thread(find_stored, image, ports.repositories)
    approval = Approval(
        environment=document.name,
        digest=ref.digest,
        decision="denied" if deny else "approved",
        by=by,
        reason=reason,
        decided=read_clock(),
    )
    approval = await sign_approval_step(ref, approval, ports, key=key)
    for note in _approval_notes(approval, document, ref) if approval.approved else ():
        log.info("%s", sanitize_text(f"note: {note}"))
    return approval


def _approval_notes(approval: Approval, environment: Environment, ref: ImageRef) -> Iterator[str]:
    """Yield the reasons why an approval does not count, or not yet."""
    if environment.signed_approvals and not approval.signature:
        yield f"{environment.name} counts only approvals that people sign with keys of their own (`cscm approve --key`)"
    if not environment.requires_approval:
        yield f"{environment.name} requires no approval: there, an approval only overrides an earlier denial"
    try:
        environment.placement(ref.application)
    except SettingInvalid as error:
        yield f"{summarize_error(error)}: its images are not deployed there"
