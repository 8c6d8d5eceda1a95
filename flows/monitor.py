"""Flow `monitor`: compare what runs with what should run."""

from __future__ import annotations

from prefect import flow

from blocks.execution_ports import ExecutionPorts
from orchestration.run_states import complete_as
from supply_chain.execution.host import list_drifts
from supply_chain.execution.observation import Observation
from tasks.monitor import monitor_step


@flow(name="monitor", flow_run_name="monitor")
async def monitor(environment: str | None = None) -> tuple[Observation, ...]:
    """Compare what runs with the signed deployment records. The run ends as Drifted if there are deviations.

    Args:
        environment: The name of one environment. If empty, all environments.
    """
    observed = await monitor_step(environment, await ExecutionPorts.aload())
    if codes := list_drifts(observed):
        return complete_as("Drifted", ", ".join(codes), observed)
    return observed
