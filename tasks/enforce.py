"""Task `enforcement`: compare the admission policies of clusters with what was installed."""

from __future__ import annotations

from prefect.artifacts import acreate_markdown_artifact

from blocks.execution_ports import ExecutionPorts
from orchestration.steps import in_thread, step
from supply_chain.execution.enforcement.installation import EnforcementStatus
from supply_chain.text import plain_text_lines


@step("enforcement")
async def enforcement_step(environment: str | None, ports: ExecutionPorts) -> tuple[EnforcementStatus, ...]:
    """Return how the admission to one environment or to all is enforced by their clusters, and what differs."""
    found = [each for name, each in ports.enforcements.items() if environment in (None, name)]
    statuses = tuple([await in_thread(each.status) for each in found])
    if statuses:
        text = plain_text_lines("\n\n".join(map(str, statuses)))
        await acreate_markdown_artifact(
            key="enforcement", markdown=f"```\n{text}\n```", description="What clusters enforce, and what differs"
        )
    return statuses
