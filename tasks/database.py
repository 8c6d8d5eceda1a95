"""database: a newer vulnerability database told to the supply chain."""

from __future__ import annotations

from prefect.events import emit_event
from prefect.events.worker import EventsWorker

from supply_chain.vulnerability.findings import Database


def post_updated(database: Database) -> None:
    """Post `cscm.database.updated`: another database than before is in use from now on."""
    emit_event(
        event="cscm.database.updated",
        resource={"prefect.resource.id": f"cscm.database.{database.digest}", "prefect.resource.name": database.kind},
        payload=database.model_dump(mode="json"),
    )
    EventsWorker.instance().drain()
