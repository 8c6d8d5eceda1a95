"""Task `name`: check, before the build, that an application's name belongs to its source."""

from __future__ import annotations

from blocks.development_ports import DevelopmentPorts
from orchestration.clock import now
from orchestration.steps import step
from supply_chain.development.snapshot import Snapshot
from supply_chain.policy.fact_values import name_conflict
from supply_chain.policy.gate import refuse_name
from supply_chain.policy.names import Holder, settled_holder
from supply_chain.policy.outcome import Refused
from supply_chain.policy.reading import find_holder


@step("check the name")
def check_name_step(snapshot: Snapshot, ports: DevelopmentPorts) -> Refused | None:
    """Return the refusal of a name that does not belong to this source, or None.

    This applies the intake gate's rule to what development can read. The gate decides again, on the signed
    provenance. Without that rule, no name is refused here.
    """
    name = snapshot.manifest.name
    latest = find_holder(ports.list_curated_images(name), ports.evidence)
    holder = settled_holder(ports.workbench.registered(name, snapshot.origin), latest)
    conflict = name_conflict(name, holder, Holder.of(snapshot.manifest, snapshot.source))
    return refuse_name(conflict, ports.workbench.policies().intake, now()) if conflict else None
