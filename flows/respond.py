"""Flows `respond` and `alert`: report an event about an image, or about the chain itself, and notify people."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks import Workbench
from blocks.execution_ports import ExecutionPorts
from flows.isolate import isolate
from orchestration.clock import read_clock
from orchestration.notifications import notify
from orchestration.run_names import name_run_by_image
from orchestration.steps import wait_for_all
from supply_chain.errors import ResponseIncomplete, SupplyChainError
from supply_chain.execution.response import CANCELS, JUDGES, Response
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import name_curated_repository
from supply_chain.reports import alert_page, response_page
from supply_chain.reports.text import make_artifact_key
from supply_chain.text import join_lines, sanitize_text
from tasks.isolate import find_isolating_step
from tasks.respond import (
    RejudgeResult,
    cancel_promotions_step,
    find_deployments_step,
    judge_again_step,
    list_undescribed_step,
    refuse_blocked_step,
)


@flow(name="respond", flow_run_name=name_run_by_image)
async def respond(image: str, event: str, facts: list[Any] | None = None, since: datetime | None = None) -> Response:
    """Report what runs from an image that was blocked, judged again or drifted, and notify its owner.

    What runs is isolated where the environment says so. After a block or a changed verdict, the published verdicts of
    the deploy gate are corrected. Runs that promote a blocked image are cancelled; as they may publish a verdict until
    they end, it is corrected again after that.

    An environment that cannot be read, judged or isolated prevents nothing in others. Once all is reported, the run
    fails with `ResponseIncomplete`. A retry does what is left.

    Args:
        image: The image that the event names, such as curated/hello@sha256:…
        event: The event, such as cscm.image.blocked.
        facts: The event's deviations or reasons, each with its code and fact.
        since: The time of the event. If empty, now.
    """
    begun = read_clock()
    ports = await ExecutionPorts.aload()
    ref = ImageRef.parse(image)
    ref = ref.with_repository(name_curated_repository(ref.application))
    isolation, promotions, judged = await wait_for_all(
        _isolate(ref, event, since or begun, ports),
        cancel_promotions_step(ref, event, ports),
        _judge_again(ref, event in JUDGES, ports),
    )
    if event in CANCELS and promotions.runs:
        judged = RejudgeResult(facts=judged.facts)  # what was unknown then is tried again
        judged.add(await _judge_again(ref, True, ports))
    lines = [_fact(each) for each in facts or ()]
    (promotions.facts if event in CANCELS else lines).extend([*isolation.left, *isolation.lines])
    response = await find_deployments_step(ref, event, lines, promotions, judged, ports)
    page = response_page(response)
    subject = sanitize_text(f"{event}: {ref.application} {ref.short}")
    key = make_artifact_key("response", ref.application)
    await acreate_markdown_artifact(
        key=key, markdown=page, description=f"{subject}; owner: {sanitize_text(response.owner)}"
    )
    await notify(subject, page, ports.workbench.notify, once=response.fingerprint)
    if left := [*isolation.left, *judged.unread]:
        raise ResponseIncomplete(
            f"The response to {event} about {ref} is incomplete, and all else of it is done:\n"
            + "".join(f"  {each}\n" for each in left)
            + "Correct what these lines name, then retry the run: it does what is left."
        )
    return response


async def _judge_again(ref: ImageRef, is_needed: bool, ports: ExecutionPorts) -> RejudgeResult:
    """Judge an image for all environments at once: one that takes long, or fails, neither delays nor prevents others.

    A block also takes effect in environments that were removed, or whose document cannot be read.
    """
    judged = RejudgeResult()
    if is_needed:
        documents = ports.workbench.environment_documents()
        judging = (judge_again_step(ref, each, ports) for each in documents.readable)
        for each in await wait_for_all(*judging, _refuse_undescribed(ref, ports)):
            judged.add(each)
        for name, error in documents.unreadable.items():
            what = (
                f"it is unknown whether the published verdict for {name} is right, because only blocks were considered"
            )
            judged.unread.append(f"{what}: {join_lines(error)}")
    return judged


async def _refuse_undescribed(ref: ImageRef, ports: ExecutionPorts) -> RejudgeResult:
    environments, judged = await list_undescribed_step(ref, ports)
    refusing = (refuse_blocked_step(ref, environment, why, ports) for environment, why in environments.items())
    for each in await wait_for_all(*refusing):
        judged.add(each)
    return judged


@dataclass
class _Isolation:
    """A line for each isolation, and for each that is incomplete or of which nobody knows whether it is needed."""

    lines: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


async def _isolate(ref: ImageRef, event: str, since: datetime, ports: ExecutionPorts) -> _Isolation:
    """Isolate what runs from an image where its environment says so; an error prevents no other isolation."""
    isolation = _Isolation()
    try:
        targets = await find_isolating_step(ref, event, ports)
        isolation.left.extend(targets.unread)
        for each, reason in targets.deployments:
            what = f"{each.application} in {each.environment}"
            try:
                record = await isolate(each.environment, each.application, reason=reason, by=event, since=since)
                isolation.lines.append(f"{what} is isolated: {record.recovery}")
            except SupplyChainError as error:
                isolation.left.append(f"the isolation of {what} is incomplete: {join_lines(error)}")
    except SupplyChainError as error:
        isolation.left.append(f"whether something is to be isolated is unknown: {join_lines(error)}")
    return isolation


@flow(name="alert", flow_run_name="alert {about}")
async def alert(about: str, summary: str, remedy: str) -> None:
    """Notify the operators of a problem in the chain itself.

    Args:
        about: What has the problem: a run, a deployment or a worker.
        summary: What happened.
        remedy: What to do.
    """
    page = alert_page(about, summary, remedy)
    await acreate_markdown_artifact(
        key=make_artifact_key("alert", summary), markdown=page, description=sanitize_text(f"{summary}: {about}")[:300]
    )
    workbench: Workbench = await Workbench.aload("workbench")
    await notify(sanitize_text(f"{summary}: {about}"), page, workbench.notify)


def _fact(value: Any) -> str:
    """Return a deviation or a reason as one line."""
    if isinstance(value, dict):
        return sanitize_text(f"{value.get('code', '')}: {value.get('fact', '')}")[:500]
    return sanitize_text(value)[:500]
