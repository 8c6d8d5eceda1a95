"""Flow `monitor`: compare what runs with what should run."""

from __future__ import annotations

from prefect import flow

from blocks import Tier, Workbench
from orchestration.run_states import complete_as
from supply_chain.execution.host import list_drifts
from supply_chain.execution.monitor import Observation
from tasks.monitor import monitor as watch


@flow(name="monitor", flow_run_name="monitor")
async def monitor(environment: str | None = None) -> tuple[Observation, ...]:
    """Compare what runs with the signed deployment records. The run ends as Drifted if there are deviations.

    Args:
        environment: The name of one environment. If empty, all environments.
    """
    tier = await Tier.aload("execution")
    workbench = await Workbench.aload("workbench")
    observed = await watch(environment, tier, workbench)
    if codes := list_drifts(observed):
        return complete_as("Drifted", ", ".join(codes), observed)
    return observed
