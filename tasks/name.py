"""Task `name`: check, before the build, that an application's name belongs to its source."""

from __future__ import annotations

from prefect import task

from blocks import Tier, Workbench
from orchestration.steps import RETRYING, in_thread
from supply_chain.development.snapshot import Snapshot
from supply_chain.policy.names import Holder, settled_holder
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.policy.policies import INTAKE
from supply_chain.policy.reading import find_holder
from supply_chain.policy.rules import name_reasons
from tasks.gates import curated_before


@task(name="check the name", task_run_name="check the name", **RETRYING)
async def check_name(snapshot: Snapshot, tier: Tier, workbench: Workbench) -> Refused | None:
    """Return the refusal of a name that does not belong to this source, or None.

    This applies the intake gate's rule to what development can read. The gate decides again, on the signed
    provenance.
    """
    manifest, source = snapshot.manifest, snapshot.source

    def check() -> Refused | None:
        first = find_holder(curated_before(manifest.name, tier), tier.evidence(workbench))
        held = settled_holder(workbench.registered(manifest.name, snapshot.origin), first)
        reasons = name_reasons(manifest.name, held, Holder.of(manifest, source))
        return _refused(manifest.name, reasons) if reasons else None

    return await in_thread(check)


def _refused(application: str, reasons: tuple[Reason, ...]) -> Refused:
    return Refused(image=None, application=application, gate=INTAKE.gate, policy=INTAKE.digest, reasons=reasons)
