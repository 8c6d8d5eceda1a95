"""Tags every flow run of the project, including runs within another run, with the project's tag, but no task run.

Prefect's own `tags()` would tag task runs as well, and each of them would then ask the server for a slot of that tag.
"""

from __future__ import annotations

from prefect import flow_engine
from prefect.context import TagsContext

from orchestration.registration.deployments import TAG


class FlowTags:
    """The tags of a flow run that is created now."""

    @staticmethod
    def get() -> TagsContext:
        """Return the current tags and the project's tag."""
        return TagsContext(current_tags={*TagsContext.get().current_tags, TAG})


def tag_flows() -> None:
    """Have Prefect's engine tag the flow runs that it creates, as `prefect deploy` tags the runs of deployments."""
    flow_engine.TagsContext = FlowTags  # type: ignore[assignment, attr-defined]
