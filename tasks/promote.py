"""Tasks of a promotion: plan what is due for an image, and sign decisions of people."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import cache, partial

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from blocks.tier_ports import TierPorts
from orchestration.events import emit, is_recorded, make_event_id
from orchestration.soaks import read_soaking
from orchestration.steps import run_in_thread, step
from supply_chain.errors import UNREADABLE
from supply_chain.evidence.approval import Approval, date_decision
from supply_chain.evidence.break_glass import BreakGlass, date_denial, date_use
from supply_chain.evidence.statement import APPROVAL, BREAK_GLASS, PROVENANCE
from supply_chain.execution.deployment import read_deployed_image
from supply_chain.execution.records import read_expected
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.people import sign_as_person
from supply_chain.policy.reading import read_execution_statements
from supply_chain.policy.verdict import locate_execution_evidence
from supply_chain.promotion.planned_promotion import PlannedPromotion, select_reportable_promotions
from supply_chain.promotion.to_curation import (
    find_missed_curations,
    plan_newest_promotion_to_curation,
    plan_promotion_to_curation,
)
from supply_chain.promotion.to_environment import (
    PromotionSources,
    find_missed_deployments,
    plan_promotion_to_environment,
    skip_unhealthy,
)

POLL = 1
"""Seconds between two looks at an image's evidence."""


@step("wait for evidence")
async def await_evidence_step(ref: ImageRef, ports: CurationPorts, seconds: float) -> bool:
    """Wait for the evidence of an image that is still being signed; return whether a promotion can go on."""
    store, until = ports.evidence, time.monotonic() + seconds
    with suppress(*UNREADABLE):  # the image may be superseded all the same
        if await run_in_thread(store.read_verified, ref, TierName.DEVELOPMENT, PROVENANCE):
            return True
    if not (await run_in_thread(plan_promotion_to_curation, ref, ports.repositories, store)).awaits_evidence:
        return True  # a newer image was pushed
    while time.monotonic() < until:
        if await run_in_thread(store.read_verified, ref, TierName.DEVELOPMENT, PROVENANCE):
            return True
        await asyncio.sleep(POLL)
    return False


@step("plan the promotion to curation")
def plan_curation_step(ref: ImageRef, ports: CurationPorts, *, newest: bool = False) -> PlannedPromotion:
    """Return the promotion that is due for an offered image.

    With `newest`, if none is due for that image, return that of its application's newest offered image.
    """
    promotion = plan_promotion_to_curation(ref, ports.repositories, ports.evidence)
    if newest and not promotion.to:
        return plan_newest_promotion_to_curation(ref, ports.repositories, ports.evidence)
    return promotion


@step("plan the promotion to an environment")
async def plan_deployment_step(ref: ImageRef, after: str | None, ports: ExecutionPorts) -> PlannedPromotion:
    """Return the promotion that is due for a curated image: its environment, and whether a person must decide first."""
    sources = _sources(ports)
    return await _skip_unhealthy(await run_in_thread(plan_promotion_to_environment, ref, after, sources), sources)


async def _skip_unhealthy(promotion: PlannedPromotion, sources: PromotionSources) -> PlannedPromotion:
    if not promotion.to or promotion.after is None:
        return promotion
    current = await run_in_thread(sources.current, promotion.image.application, promotion.after)
    return skip_unhealthy(promotion, current, await read_soaking(promotion.after, promotion.image.application))


@step("sign the approval")
def sign_approval_step(
    ref: ImageRef, decision: Approval, ports: ExecutionPorts, *, sent: bool = False, key: str = ""
) -> Approval:
    """Sign a person's approval or denial as execution's evidence, and return it; the deploy gate reads nothing else.

    `sent` is that of `evidence.approval.date_decision`: the decision was made in a form. With a `key`, the person signs
    it first; raise `DeclarationInvalid` if that would not count.
    """
    where, evidence = locate_execution_evidence(ref), ports.evidence
    event_uuid = make_event_id("image.decided", f"{ref} {decision.predicate()}")
    ports.repositories.ensure_repository(where.repository, immutable=True, key=None)
    before = read_execution_statements(ref, evidence, APPROVAL, BREAK_GLASS)
    if unsigned := date_decision(date_denial(decision, before), before, sent=sent):
        decision = _sign_as_person(unsigned, ref, ports, key) if key else unsigned
        evidence.attach(where, APPROVAL, decision.predicate(), decision.decided)
    if is_recorded(event_uuid):  # a run signed and emitted it, but was killed before it removed the form's answer
        return decision
    emit(
        "image.decided",
        ref,
        None,
        event_uuid,
        environment=decision.environment,
        decision=decision.decision,
        by=decision.by,
        reason=decision.reason,
    )
    return decision


@step("sign the break-glass")
def sign_break_glass_step(ref: ImageRef, use: BreakGlass, ports: ExecutionPorts, key: str) -> BreakGlass:
    """Sign a break-glass as its person and as execution's evidence, and return it.

    Raise `DeclarationInvalid` if it would have no effect; then nothing is part of the evidence.
    """
    where, evidence = locate_execution_evidence(ref), ports.evidence
    use = date_use(use, read_execution_statements(ref, evidence, APPROVAL))
    sign, people = partial(ports.workbench.sign_as_person, key), ports.workbench.people
    signed = sign_as_person(
        use, ref, people().installation, sign, lambda signed: people().explain_uncounted_break_glass(signed, ref)
    )
    ports.repositories.ensure_repository(where.repository, immutable=True, key=None)
    evidence.attach(where, BREAK_GLASS, signed.predicate(), signed.at)
    emit(
        "image.break-glass",
        ref,
        None,
        make_event_id("image.break-glass", f"{ref} {signed.predicate()}"),
        environment=signed.environment,
        by=signed.by,
        until=signed.expires.isoformat(),
        reason=signed.reason,
    )
    return signed


def _sign_as_person(decision: Approval, ref: ImageRef, ports: ExecutionPorts, key: str) -> Approval:
    sign, people = partial(ports.workbench.sign_as_person, key), ports.workbench.people
    return sign_as_person(
        decision, ref, people().installation, sign, lambda signed: people().explain_uncounted_approval(signed, ref)
    )


@step("find missed promotions")
async def find_missed_step(ports: TierPorts, *, shallow: bool = False) -> tuple[PlannedPromotion, ...]:
    """Return the promotions that no event announced to this tier, for the newest image of each application."""
    if ports.name is TierName.CURATION:
        return await run_in_thread(find_missed_curations, ports.repositories, ports.evidence, shallow=shallow)
    sources = _sources(ports)
    promotions = await run_in_thread(find_missed_deployments, sources)
    return select_reportable_promotions([await _skip_unhealthy(promotion, sources) for promotion in promotions])


def _sources(ports: TierPorts) -> PromotionSources:
    """Return execution's sources; what should run of an application is read once, so that no other one is affected."""
    documents = ports.workbench.environment_documents()

    @cache
    def running(application: str) -> dict[str, ImageRef]:
        expected = read_expected(documents.names, ports.repositories, ports.registry, ports.evidence, application)
        return {each.environment: read_deployed_image(each) for each in expected}

    return PromotionSources(
        ports.repositories,
        ports.evidence,
        ports.workbench.environment,
        documents.invalid,
        lambda application, environment: running(application).get(environment),
        ports.workbench.policies().deploy,
    )
