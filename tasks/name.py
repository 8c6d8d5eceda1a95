"""Task `name`: check, before the build, that an application's name belongs to its source."""

from __future__ import annotations

from blocks.development_ports import DevelopmentPorts
from orchestration.steps import step
from supply_chain.development.snapshot import Snapshot
from supply_chain.policy.names import Holder, settled_holder
from supply_chain.policy.outcome import Refused
from supply_chain.policy.policies import INTAKE
from supply_chain.policy.reading import find_holder
from supply_chain.policy.rules import name_reasons


@step("check the name")
def check_name_step(snapshot: Snapshot, ports: DevelopmentPorts) -> Refused | None:
    """Return the refusal of a name that does not belong to this source, or None.

    This applies the intake gate's rule to what development can read. The gate decides again, on the signed
    provenance.
    """
    name = snapshot.manifest.name
    first = find_holder(ports.list_curated_images(name), ports.evidence)
    holder = settled_holder(ports.workbench.registered(name, snapshot.origin), first)
    if reasons := name_reasons(name, holder, Holder.of(snapshot.manifest, snapshot.source)):
        return Refused(image=None, application=name, gate=INTAKE.gate, policy=INTAKE.digest, reasons=reasons)
    return None
