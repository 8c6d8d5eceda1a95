"""Text of the results of flows, for a terminal."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from supply_chain.evidence.approval import Approval
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.observation import Observation
from supply_chain.fleet.exposure import RescanReport
from supply_chain.fleet.preview import PolicyPreview
from supply_chain.lifecycle.apply import Applied
from supply_chain.lifecycle.plan import Plan
from supply_chain.model.image import Candidate, ReleasedImage
from supply_chain.policy.explanation import GateExplanation
from supply_chain.reports import (
    applied_lines,
    observation_lines,
    plan_lines,
    policy_explanation_lines,
    policy_preview_lines,
    rescan_message,
)


@singledispatch
def render(result: Any) -> str:
    """Return the text of a flow's result; of a type without a renderer of its own, its `str`."""
    return str(result)


@render.register(list)
@render.register(tuple)
def _render_each(results: list[Any] | tuple[Any, ...]) -> str:
    return "\n".join(map(render, results)) or "nothing to report"


@render.register
def _render_deployment(deployment: Deployment) -> str:
    return f"{deployment.application} {deployment.digest} answers at {deployment.url}"


@render.register
def _render_approval(approval: Approval) -> str:
    return f"{approval.decision} by {approval.by} for {approval.environment}: {approval.digest}"


@render.register(Candidate)
@render.register(ReleasedImage)
def _render_reference(image: Candidate | ReleasedImage) -> str:
    return str(image.ref)


render.register(Observation, observation_lines)
render.register(GateExplanation, policy_explanation_lines)
render.register(PolicyPreview, policy_preview_lines)
render.register(Plan, plan_lines)
render.register(Applied, applied_lines)
render.register(RescanReport, rescan_message)
