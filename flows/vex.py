"""Flow `attach-vex`: attach an issuer's VEX document to a curated image."""

from __future__ import annotations

from prefect import flow

from blocks.curation_ports import CurationPorts
from orchestration.personal_keys import require_own_machine
from orchestration.run_names import name_run_by_image
from orchestration.steps import run_in_thread
from supply_chain.curation.vex import VexAttachment
from supply_chain.fleet.find import find_stored
from tasks.vex import attach_vex_step


@flow(name="attach-vex", flow_run_name=name_run_by_image)
async def attach_vex(image: str, document: str, key: str) -> VexAttachment:
    """Sign an OpenVEX document as an attestation about an image with an issuer's key, and attach it to the image.

    Args:
        image: The curated image: curated/hello@sha256:… or only its digest.
        document: The text of the OpenVEX document.
        key: The issuer's key, as cosign names it; this machine has to be able to use it.
    """
    require_own_machine(key, "vex attach")
    ports = await CurationPorts.aload()
    ref = await run_in_thread(find_stored, image, ports.repositories)
    return await attach_vex_step(ref, document, key, ports)
