"""Flow `monitor`: compare what runs with what should run."""

from __future__ import annotations

from prefect import flow

from blocks.execution_ports import ExecutionPorts
from orchestration.run_states import complete_as
from orchestration.steps import wait_for_all
from supply_chain.execution.environment_documents import join_invalid_errors
from supply_chain.execution.host import list_drifts
from supply_chain.execution.observation import Observation
from tasks.enforce import enforcement_step
from tasks.monitor import monitor_step
from tasks.watch import watch_step


@flow(name="monitor", flow_run_name="monitor")
async def monitor(environment: str | None = None, watch: int = 0) -> tuple[Observation, ...]:
    """Compare what runs with the signed deployment records, and what clusters enforce with what was installed.

    The run ends as Unprotected if a cluster may admit what it should refuse, as Drifted for other deviations. If all
    environments are compared and some are invalid, it fails with `SettingInvalid` once all else is done.

    Args:
        environment: The name of one environment. If empty, all environments.
        watch: For how many seconds changes in clusters are then reported at once.
    """
    ports = await ExecutionPorts.aload()
    observed: tuple[Observation, ...]
    observed, statuses = await wait_for_all(monitor_step(environment, ports), enforcement_step(environment, ports))
    observed += await watch_step(environment, ports, observed, watch)
    if weak := [each for each in statuses if each.is_weak]:
        return complete_as("Unprotected", "; ".join(map(str, weak)), observed)
    if environment is None and (invalid := ports.workbench.environment_documents().invalid):
        raise join_invalid_errors(invalid, "All else is compared, but nothing is deployed to these environments")
    if codes := [*list_drifts(observed), *dict.fromkeys(d.code for each in statuses for d in each.deviations)]:
        return complete_as("Drifted", ", ".join(codes), observed)
    return observed
