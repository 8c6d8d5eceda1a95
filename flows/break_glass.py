"""Flow `break_glass`: a person deploys a refused image for some hours, with a key of their own."""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from blocks.execution_ports import ExecutionPorts
from flows.deploy import deploy
from orchestration.clock import read_clock
from orchestration.notifications import notify
from orchestration.personal_keys import require_own_machine
from orchestration.run_names import name_run_by_image
from orchestration.run_states import complete_refused
from orchestration.steps import run_in_thread
from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.personal_decision import Words
from supply_chain.execution.deployment import Deployment
from supply_chain.fleet.find import find_stored
from supply_chain.policy.outcome import Refused
from supply_chain.reports import break_glass_page
from supply_chain.text import sanitize_text
from tasks.promote import sign_break_glass_step


@flow(name="break-glass", flow_run_name=name_run_by_image)
async def break_glass(
    image: str, environment: str, by: Words, reason: Words, expires: datetime, key: str
) -> Deployment | Refused:
    """Sign that an image may run in an environment although the deploy gate refuses it, and deploy it.

    What is signed names the rules that refuse the image, and the findings: what refuses it later is not overridden. The
    operators are notified before it is deployed. If a reason cannot be overridden, nothing is signed.

    Args:
        image: The image in curated/: curated/hello@sha256:… or only its digest.
        environment: The environment to deploy to: the name of a document in deployments/environments.
        by: Your name in deployments/people.yaml.
        reason: The reason, in one sentence. It is part of the signed statement.
        expires: When it ends. Then the deployment is judged again.
        key: Your own key, as cosign names it; this machine has to be able to use it.
    """
    require_own_machine(key, "break-glass")
    ports, at = await ExecutionPorts.aload(), read_clock()
    if expires <= at:
        raise DeclarationInvalid(
            f"The break-glass would end at {expires:%Y-%m-%d %H:%M %Z}, which is past.\nGive a later time."
        )
    document = ports.workbench.valid_environment(environment)  # raises before anything is signed
    ref = await run_in_thread(find_stored, image, ports.repositories)
    document.placement(ref.application)  # raises before anything is signed
    codes = await run_in_thread(ports.find_overridable, ref, document)
    if isinstance(codes, Refused):
        return complete_refused(codes)
    use = BreakGlass(
        environment=document.name, digest=ref.digest, by=by, reason=reason, at=at, expires=expires, overrides=codes
    )
    use = await sign_break_glass_step(ref, use, ports, key)
    subject = sanitize_text(f"break-glass for {document.name}: {ref.application} {ref.short}, by {by}")
    await notify(subject, break_glass_page(use, ref), ports.workbench.notify)
    result = await deploy(image=str(ref), environment=document.name)
    return complete_refused(result) if isinstance(result, Refused) else result
