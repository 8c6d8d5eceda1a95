"""Task `name`: check, before the build, that an application's name belongs to its source."""

from __future__ import annotations

from blocks.development_ports import DevelopmentPorts
from orchestration.clock import read_clock
from orchestration.steps import step
from supply_chain.development.name import check_name
from supply_chain.development.snapshot import Snapshot
from supply_chain.policy.outcome import Refused


@step("check the name")
def check_name_step(snapshot: Snapshot, ports: DevelopmentPorts) -> Refused | None:
    """Return the refusal of a name that does not belong to this source, or None.

    This applies the intake gate's rule to what development can read. The gate decides again, on the signed
    provenance.
    """
    name = snapshot.declaration.name
    before, registered = ports.list_curated_images(name), ports.workbench.registered(name, snapshot.origin)
    return check_name(
        snapshot, before, registered, ports.evidence, lambda: ports.workbench.policies().intake, read_clock()
    )
