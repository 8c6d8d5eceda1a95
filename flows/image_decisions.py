"""Flows `block`, `unblock`, `hold`, `unhold` and `archive-blocked`: sign and apply lifecycle decisions about images."""

from __future__ import annotations

from prefect import flow

from blocks.lifecycle_ports import LifecyclePorts
from orchestration.personal_keys import require_own_machine
from orchestration.run_names import name_run_by_image
from orchestration.run_states import complete_as
from orchestration.steps import run_in_thread
from supply_chain.evidence.image_status import Act
from supply_chain.evidence.personal_decision import Words
from supply_chain.fleet.find import find_stored
from supply_chain.lifecycle.blocked_images import ArchivedImages
from supply_chain.lifecycle.decisions import DecisionResult
from tasks.lifecycle import archive_blocked_step, decide_step


@flow(name="block", flow_run_name=name_run_by_image)
async def block(image: str, reason: Words, by: Words, key: str = "") -> DecisionResult:
    """Block an image: every gate refuses it and nobody can pull it. The result lists what runs from it.

    Args:
        image: The image: curated/hello@sha256:… or only its digest.
        reason: The reason. It is signed, and every refusal quotes it.
        by: The name of the person who decides. It is signed.
        key: The person's own key, as cosign names it; this machine has to be able to use it. If empty, nobody verifies
            the name.
    """
    return await _decide(image, Act.BLOCK, reason, by, key)


@flow(name="unblock", flow_run_name=name_run_by_image)
async def unblock(image: str, reason: Words, by: Words, key: str = "") -> DecisionResult:
    """Lift a block: the gates judge the image by its evidence again, and within minutes it can be pulled.

    Args:
        image: The image: curated/hello@sha256:… or only its digest.
        reason: The reason. It is signed.
        by: The name of the person who decides. It is signed.
        key: The person's own key, as cosign names it; this machine has to be able to use it. If empty, nobody verifies
            the name.
    """
    return await _decide(image, Act.UNBLOCK, reason, by, key)


@flow(name="hold", flow_run_name=name_run_by_image)
async def hold(image: str, reason: Words, by: Words, key: str = "") -> DecisionResult:
    """Hold an image: the lifecycle removes and archives nothing of it.

    Args:
        image: The image: curated/hello@sha256:… or only its digest.
        reason: The reason. It is signed.
        by: The name of the person who decides. It is signed.
        key: The person's own key, as cosign names it; this machine has to be able to use it. If empty, nobody verifies
            the name.
    """
    return await _decide(image, Act.HOLD, reason, by, key)


@flow(name="unhold", flow_run_name=name_run_by_image)
async def unhold(image: str, reason: Words, by: Words, key: str = "") -> DecisionResult:
    """End a hold: the lifecycle's rules apply to the image again.

    Args:
        image: The image: curated/hello@sha256:… or only its digest.
        reason: The reason. It is signed.
        by: The name of the person who decides. It is signed.
        key: The person's own key, as cosign names it; this machine has to be able to use it. If empty, nobody verifies
            the name.
    """
    return await _decide(image, Act.UNHOLD, reason, by, key)


@flow(name="archive-blocked", flow_run_name="archive blocked images")
async def archive_blocked() -> ArchivedImages:
    """Archive every blocked image that was pushed again, under any name."""
    archived = await archive_blocked_step(await LifecyclePorts.aload())
    return complete_as("Unarchived", str(archived), archived) if archived.failed else archived


async def _decide(image: str, act: Act, reason: Words, by: Words, key: str) -> DecisionResult:
    require_own_machine(key, act.value)
    ports = await LifecyclePorts.aload()
    ref = await run_in_thread(find_stored, image, ports.repositories)
    return await decide_step(ref, act, by, reason, ports, key)
