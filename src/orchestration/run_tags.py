"""Every flow run of ours carries the project's tag, those within another one too, and no task run does.

Prefect's own `tags()` would give it to task runs as well, each of which then asks the server for a place by that tag.
"""

from __future__ import annotations

from prefect import flow_engine
from prefect.context import TagsContext

from orchestration.registration.deployments import TAG


class FlowTags:
    """What a flow run that is made now carries."""

    @staticmethod
    def get() -> TagsContext:
        """The tags of this moment, and the project's."""
        return TagsContext(current_tags={*TagsContext.get().current_tags, TAG})


def tag_flows() -> None:
    """Have Prefect's engine tag the flow runs that it makes, as `prefect deploy` does those of deployments."""
    flow_engine.TagsContext = FlowTags  # type: ignore[assignment, attr-defined]
