"""Flows `respond` and `alert`: report an event about an image, or about the chain itself, and notify people."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks import Workbench
from blocks.execution_ports import ExecutionPorts
from orchestration.notifications import notify
from orchestration.run_names import by_image
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import curated_repository
from supply_chain.promotion.response import CANCELS, JUDGES, Response
from supply_chain.reports import alert_page, response_page
from supply_chain.reports.text import artifact_key
from supply_chain.text import plain_text
from tasks.respond import cancel_promotions_step, find_deployments_step, judge_again_step


@flow(name="respond", flow_run_name=by_image)
async def respond(image: str, happened: str, facts: list[Any] | None = None) -> Response:
    """Report what runs from an image that was blocked, judged again or drifted, and notify its owner.

    After a block or a changed verdict, the published verdicts of the deploy gate are corrected. Runs that promote a
    blocked image are cancelled; as they may publish a verdict until they end, it is corrected again after that.

    Args:
        image: The image that the event names, such as curated/hello@sha256:…
        happened: The event, such as cscm.image.blocked.
        facts: The event's deviations or reasons, each with its code and fact.
    """
    ports = await ExecutionPorts.aload()
    ref = ImageRef.parse(image)
    ref = ref.moved_to(curated_repository(ref.application))
    judging = [judge_again_step(ref, ports)] if happened in JUDGES else []
    stopped, *judged = await asyncio.gather(cancel_promotions_step(ref, happened, ports), *judging)
    if happened in CANCELS and stopped.runs:
        judged.append(await judge_again_step(ref, ports))
    found = await find_deployments_step(ref, happened, [_fact(each) for each in facts or ()], stopped, judged, ports)
    page = response_page(found)
    subject = plain_text(f"{happened}: {ref.application} {ref.short}")
    key = artifact_key("response", ref.application)
    await acreate_markdown_artifact(key=key, markdown=page, description=f"{subject}; owner: {plain_text(found.owner)}")
    await notify(subject, page, ports.workbench.notify, once=found.fingerprint)
    return found


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
