"""announce: what ECR said of a push, as an event that Prefect has taken when this returns."""

from __future__ import annotations

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import PrefectException

from supply_chain.errors import EventNotTaken, EventUnreadable
from supply_chain.promotion.pushes import Pushed
from tasks.events import about, numbered

EVENT = "cscm.image.pushed"
NEVER = (400, 413, 422)
"""Statuses that say something of the event, and nothing of the server."""


def announce(pushed: Pushed, client: SyncPrefectClient) -> None:
    """Post `cscm.image.pushed`; `EventNotTaken` where Prefect does not say that it has it, and `EventUnreadable`
    where it says that it is no event: it would say so each time, and what comes after would wait for ever.

    Not by the way of other events, whose sender is not told whether they arrived.
    """
    event = event_of(pushed).model_dump(mode="json")
    try:
        client.request("POST", "/events", json=[event]).raise_for_status()
    except (HTTPError, PrefectException) as error:
        if isinstance(error, HTTPStatusError) and error.response.status_code in NEVER:
            raise EventUnreadable(
                f"Prefect does not take {EVENT} of {pushed.image} for an event: {error.response.text[:300]}\n"
                "It lies in the dead-letter queue (`cscm events dead`); `cscm events replay --all` tries again."
            ) from error
        raise EventNotTaken(
            f"Prefect did not take {EVENT} of {pushed.image}: {error or type(error).__name__}\n"
            "It is tried again; see whether Prefect's server runs (`cscm status`)."
        ) from error


def event_of(pushed: Pushed) -> Event:
    """The event; the same for the same push, however often its message comes."""
    ref = pushed.image
    payload = {"image": str(ref), "repository": ref.repository, "digest": ref.digest, "tag": pushed.tag}
    return Event(
        id=numbered("image.pushed", pushed.event),
        occurred=pushed.at,
        event=EVENT,
        resource=Resource.model_validate(about(ref, "tier")),
        payload={"origin": "tier", **payload},
    )
