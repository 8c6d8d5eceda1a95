"""Asks a person to approve a promotion in a form of the suspended run, and reads the answers."""

from __future__ import annotations

import re
from datetime import datetime
from uuid import UUID, uuid4

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field, ValidationError

from orchestration.clock import read_clock
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.personal_decision import Words
from supply_chain.promotion.planned_promotion import PlannedPromotion
from supply_chain.reports import escape
from supply_chain.text import sanitize_text

PATIENCE = 14 * 24 * 3600
"""Seconds that a run waits for a person. Then it fails, and the next run of `catch-up` asks again."""
FORM = "approval-{digest}-{environment}-{once}"
"""Key of a form. An answer about another image or environment is no answer to this form. Prefect asks only once for
each key.
"""
ANSWERED = re.compile(
    f"suspended-{FORM.format(digest='([0-9a-f]{64})', environment='(.+)', once='[0-9a-f]{32}')}-response"
)
"""Pattern of the keys under which Prefect stores the answers."""


class Decision(RunInput):
    """The form that a suspended promotion shows."""

    approve: bool = Field(
        title="Approve", description="Yes: it is deployed there. No: it is not deployed. Both are signed."
    )
    by: Words = Field(title="Decided by", description="Your name. It is recorded as you write it; it is not verified.")
    reason: Words = Field(title="Reason", description="One sentence. It is part of the signed statement.")


async def request_approval(promotion: PlannedPromotion) -> None:
    """Ask a person to approve a promotion: the run is suspended here, and starts again when the form is sent."""
    image, after, to = promotion.image, promotion.after, escape(promotion.to)
    where = f"has soaked in {escape(after)}" if after else "**has not run in any environment before**"
    about = f"**{escape(image.application)}** `{image.digest}` {where}. May it go to **{to}**?"
    if promotion.signers:
        about += (
            f" {to} counts only approvals that people sign with keys of their own, and needs "
            f"{promotion.signers}: `cscm approve --key`. An answer here records a request, or a denial."
        )
    form = Decision.with_initial_data(description=about)
    digest = image.digest.removeprefix("sha256:")
    key = FORM.format(digest=digest, environment=promotion.to, once=uuid4().hex)
    await asuspend_flow_run(wait_for_input=form, timeout=PATIENCE, key=key)


async def read_answers() -> dict[str, Approval]:
    """Return the answers in this run's forms, by their keys, which say what image and environment they are about.

    An answer that is not valid, such as one with a blank reason, is deleted, so that the form is shown again.
    """
    answers: dict[str, Approval] = {}
    async with get_client() as client:
        for each in await client.filter_flow_run_input(UUID(flow_run.id), "suspended-approval-", 200, set()):
            about = ANSWERED.fullmatch(each.key)
            try:
                decision = Decision.model_validate(each.decoded_value) if about else None
            except ValidationError as error:
                get_run_logger().warning("An answer is not valid, so the form is shown again: %s", sanitize_text(error))
                await client.delete_flow_run_input(UUID(flow_run.id), each.key)
                continue
            if about and decision:
                sent = min(
                    each.created or read_clock(), read_clock()
                )  # the server's clock may be ahead: sign no future time
                answers[each.key] = _make_approval(decision, about[2], f"sha256:{about[1]}", sent)
    return answers


async def forget_answer(answer: str) -> None:
    """Delete an answer once it is signed, so that it is not used again if somebody restarts this run."""
    async with get_client() as client:
        await client.delete_flow_run_input(UUID(flow_run.id), answer)


def _make_approval(decision: Decision, environment: str, digest: str, sent: datetime) -> Approval:
    return Approval(
        environment=environment,
        digest=digest,
        decision="approved" if decision.approve else "denied",
        by=decision.by,
        reason=decision.reason,
        decided=sent,
    )
