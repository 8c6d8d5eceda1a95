"""What happens to source, told to the supply chain."""

from __future__ import annotations

from pathlib import Path

from prefect.events import emit_event
from prefect.events.worker import EventsWorker


def post_pushed(path: Path, revision: str) -> None:
    """Post `cscm.source.pushed` for the application in `path`, a directory or a bare repository."""
    emit_event(
        event="cscm.source.pushed",
        resource={"prefect.resource.id": f"cscm.revision.{revision}", "prefect.resource.name": path.name},
        related=[{"prefect.resource.id": f"cscm.application.{path.name}", "prefect.resource.role": "application"}],
        payload={"path": str(path), "revision": revision},
    )
    EventsWorker.instance().drain()
