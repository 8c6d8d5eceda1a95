"""Flows `explain-policy` and `preview-policies`: what rules say about images, without recording any verdict."""

from __future__ import annotations

import asyncio

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from blocks import Inventory, Workbench
from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from orchestration.run_names import name_run_by_image
from orchestration.steps import run_in_thread
from supply_chain.fleet.find import find
from supply_chain.fleet.preview import PolicyPreview
from supply_chain.model.image import shorten_digest
from supply_chain.model.tier import CURATED, OFFERED
from supply_chain.policy.explanation import GateExplanation
from supply_chain.reports import policy_explanation_page, policy_preview_page, policy_preview_rows, truncate_rows
from tasks.policy import explain_curation_step, explain_deploy_step, preview_policies_step


@flow(name="explain-policy", flow_run_name=name_run_by_image)
async def explain_policy(image: str, environment: str = "") -> GateExplanation:
    """Show each rule of a gate with its result for an image, and the facts that it read.

    Args:
        image: The image: dev/hello@sha256:… for the intake gate; curated/hello@sha256:… or only its digest otherwise.
        environment: The environment, for the deploy gate. If empty, the release gate is explained.
    """
    if environment:
        execution = await ExecutionPorts.aload()
        document = execution.workbench.environment(environment)
        ref = await run_in_thread(find, image, CURATED, execution.repositories)
        explanation = await explain_deploy_step(ref, document, execution)
    else:
        curation = await CurationPorts.aload()
        prefix = OFFERED if image.strip().startswith(OFFERED) else CURATED
        ref = await run_in_thread(find, image, prefix, curation.repositories)
        explanation = await explain_curation_step(ref, curation)
    await acreate_markdown_artifact(
        key=f"policy-{shorten_digest(ref.digest)}", markdown=policy_explanation_page(explanation)
    )
    return explanation


@flow(name="preview-policies", flow_run_name="preview-policies")
async def preview_policies(documents: dict[str, str]) -> PolicyPreview:
    """Show what proposed policies, waivers and VEX documents would change for every judged image and deployment.

    They and the current ones judge the facts that the inventory stores, as if authorised people had signed them.
    Nothing is read from the registry, scanned or signed.

    Args:
        documents: File name → the text of a policy, a waiver, or an OpenVEX or CSAF document. It replaces the project's
            document with its name, or is added.
    """
    workbench, inventory = await asyncio.gather(Workbench.aload("workbench"), Inventory.aload("inventory"))
    preview = await preview_policies_step(documents, workbench, inventory)
    await acreate_markdown_artifact(key="policy-preview", markdown=policy_preview_page(preview))
    await acreate_table_artifact(
        key="policy-preview-changes",
        table=truncate_rows(policy_preview_rows(preview)),
        description="What the proposed documents would change; `policy-preview` is for review",
    )
    return preview
