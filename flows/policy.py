"""Flow `explain-policy`: show what each rule of a gate says about an image, without recording anything."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from orchestration.run_names import by_image
from orchestration.steps import in_thread
from supply_chain.fleet.find import find
from supply_chain.model.image import short
from supply_chain.model.tier import CURATED, OFFERED
from supply_chain.policy.explanation import GateExplanation
from supply_chain.reports import policy_explanation_page
from tasks.policy import explain_curation_step, explain_deploy_step


@flow(name="explain-policy", flow_run_name=by_image)
async def explain_policy(image: str, environment: str = "") -> GateExplanation:
    """Show each rule of a gate with its result for an image, and the facts that it read.

    Args:
        image: The image: dev/hello@sha256:… for the intake gate; curated/hello@sha256:… or only its digest otherwise.
        environment: The environment, for the deploy gate. If empty, the release gate is explained.
    """
    if environment:
        execution = await ExecutionPorts.aload()
        place = execution.workbench.environment(environment)
        ref = await in_thread(find, image, CURATED, execution.repositories)
        found = await explain_deploy_step(ref, place, execution)
    else:
        curation = await CurationPorts.aload()
        prefix = OFFERED if image.strip().startswith(OFFERED) else CURATED
        ref = await in_thread(find, image, prefix, curation.repositories)
        found = await explain_curation_step(ref, curation)
    await acreate_markdown_artifact(key=f"policy-{short(ref.digest)}", markdown=policy_explanation_page(found))
    return found
