"""Task that attaches an issuer's VEX document to an image."""

from __future__ import annotations

from blocks.curation_ports import CurationPorts
from orchestration.clock import read_clock
from orchestration.steps import step
from supply_chain.curation.vex import VexAttachment, attach_vex
from supply_chain.evidence.statement import Statement
from supply_chain.model.image import ImageRef


@step("attach VEX")
def attach_vex_step(ref: ImageRef, document: str, key: str, ports: CurationPorts) -> VexAttachment:
    """Sign a document with an issuer's key and attach it to an image; raise as `curation.vex.attach_vex`."""

    def sign(statement: Statement) -> bytes:
        return ports.workbench.sign_as_person(key, statement)

    return attach_vex(ref, document, sign, ports.evidence, ports.workbench.people(), read_clock)
