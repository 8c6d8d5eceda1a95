"""Task `enforcement`: compare the admission policies of clusters with what was installed."""

from __future__ import annotations

from functools import partial

from prefect.artifacts import acreate_markdown_artifact

from blocks.execution_ports import ExecutionPorts
from orchestration.events import emit_about_environment
from orchestration.steps import continue_after_error, run_in_thread, step
from supply_chain.errors import SupplyChainError
from supply_chain.execution.enforcement.installation import EnforcementStatus
from supply_chain.text import sanitize_lines, summarize_error


@step("enforcement")
async def enforcement_step(environment: str | None, ports: ExecutionPorts) -> tuple[EnforcementStatus, ...]:
    """Return how the admission to one environment or to all is enforced by their clusters, and what differs.

    A weak one is an event at once, because `monitor` ends only after its watch. A cluster that cannot be read does not
    prevent reading others: the error is raised once these are reported.
    """
    statuses: list[EnforcementStatus] = []
    failed: dict[str, SupplyChainError] = {}
    for name, enforcement in ports.enforcements.items():
        if environment in (None, name):
            with continue_after_error(partial(failed.__setitem__, name)):
                status = await run_in_thread(enforcement.status)
                statuses.append(status)
                if status.is_weak:
                    deviations = [each.model_dump() for each in status.deviations]
                    emit_about_environment("environment.unprotected", name, deviations=deviations)
    if statuses or failed:
        unknown = [f"{name}: unknown: {summarize_error(error)}" for name, error in failed.items()]
        text = sanitize_lines("\n\n".join([*map(str, statuses), *unknown]))
        await acreate_markdown_artifact(
            key="enforcement", markdown=f"```\n{text}\n```", description="What clusters enforce, and what differs"
        )
    if failed:
        raise next(iter(failed.values()))
    return tuple(statuses)
