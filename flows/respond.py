"""Flows `respond` and `alert`: report an event about an image, or about the chain itself, and notify people."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks import Workbench
from blocks.execution_ports import ExecutionPorts
from flows.isolate import isolate
from orchestration.clock import now
from orchestration.notifications import notify
from orchestration.run_names import by_image
from supply_chain.errors import SupplyChainError
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import curated_repository
from supply_chain.promotion.response import CANCELS, JUDGES, Response
from supply_chain.reports import alert_page, response_page
from supply_chain.reports.text import artifact_key
from supply_chain.text import join_lines, plain_text
from tasks.isolate import find_isolating_step
from tasks.respond import cancel_promotions_step, find_deployments_step, judge_again_step


@flow(name="respond", flow_run_name=by_image)
async def respond(image: str, happened: str, facts: list[Any] | None = None, since: datetime | None = None) -> Response:
    """Report what runs from an image that was blocked, judged again or drifted, and notify its owner.

    What runs is isolated where the environment says so; an error of that is raised when all is reported.

    After a block or a changed verdict, the published verdicts of the deploy gate are corrected. Runs that promote a
    blocked image are cancelled; as they may publish a verdict until they end, it is corrected again after that.

    Args:
        image: The image that the event names, such as curated/hello@sha256:…
        happened: The event, such as cscm.image.blocked.
        facts: The event's deviations or reasons, each with its code and fact.
        since: The time of the event. If empty, now.
    """
    begun = now()
    ports = await ExecutionPorts.aload()
    ref = ImageRef.parse(image)
    ref = ref.moved_to(curated_repository(ref.application))
    judging = [judge_again_step(ref, ports)] if happened in JUDGES else []
    isolation, stopped, *judged = await asyncio.gather(
        _isolate(ref, happened, since or begun, ports), cancel_promotions_step(ref, happened, ports), *judging
    )
    if happened in CANCELS and stopped.runs:
        judged.append(await judge_again_step(ref, ports))
    lines = [_fact(each) for each in facts or ()]
    (stopped.facts if happened in CANCELS else lines).extend(isolation.lines)
    response = await find_deployments_step(ref, happened, lines, stopped, judged, ports)
    page = response_page(response)
    subject = plain_text(f"{happened}: {ref.application} {ref.short}")
    key = artifact_key("response", ref.application)
    await acreate_markdown_artifact(
        key=key, markdown=page, description=f"{subject}; owner: {plain_text(response.owner)}"
    )
    await notify(subject, page, ports.workbench.notify, once=response.fingerprint)
    if isolation.error:
        raise isolation.error
    return response


@dataclass
class _Isolation:
    """A line for each isolation, also of one that failed, and the first error."""

    lines: list[str] = field(default_factory=list)
    error: SupplyChainError | None = None


async def _isolate(ref: ImageRef, happened: str, since: datetime, ports: ExecutionPorts) -> _Isolation:
    """Isolate what runs from an image where its environment says so; an error prevents no other isolation."""
    isolation = _Isolation()
    try:
        for each, reason in await find_isolating_step(ref, happened, ports):
            what = f"{each.application} in {each.environment}"
            try:
                record = await isolate(each.environment, each.application, reason=reason, by=happened, since=since)
                isolation.lines.append(f"{what} is isolated: {record.recovery}")
            except SupplyChainError as error:
                isolation.lines.append(f"the isolation of {what} is incomplete: {join_lines(error)}")
                isolation.error = isolation.error or error
    except SupplyChainError as error:
        isolation.lines.append(f"whether something is to be isolated is unknown: {join_lines(error)}")
        isolation.error = error
    return isolation


@flow(name="alert", flow_run_name="alert {about}")
async def alert(about: str, what: str, remedy: str) -> None:
    """Notify the operators of a problem in the chain itself.

    Args:
        about: What has the problem: a run, a deployment or a worker.
        what: What happened.
        remedy: What to do.
    """
    page = alert_page(about, what, remedy)
    await acreate_markdown_artifact(
        key=artifact_key("alert", what), markdown=page, description=plain_text(f"{what}: {about}")[:300]
    )
    workbench: Workbench = await Workbench.aload("workbench")
    await notify(plain_text(f"{what}: {about}"), page, workbench.notify)


def _fact(value: Any) -> str:
    """Return a deviation or a reason as one line."""
    if isinstance(value, dict):
        return plain_text(f"{value.get('code', '')}: {value.get('fact', '')}")[:500]
    return plain_text(value)[:500]
