"""announce: what ECR said of a push, as an event that Prefect has taken when this returns."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from httpx import HTTPError, HTTPStatusError, Response
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import PrefectException

from orchestration.events import about, numbered
from supply_chain.errors import EventNotTaken, EventUnreadable
from supply_chain.promotion.coalescing import AT_ONCE
from supply_chain.promotion.pushes import Pushed
from supply_chain.text import first_line, plain

EVENT = "cscm.image.pushed"
WAITING = "cscm.pushes.waiting"
NEVER = (400, 413, 422)
"""Statuses that say something of the event, and nothing of the server."""
NO_ANSWER = (*NEVER, 404, 405)
"""Statuses of a question that this server does not answer, however often it is asked."""
log = logging.getLogger("supply_chain.bridge")
UNFINISHED = {
    "flows": {"name": {"any_": ["promote"]}},
    "deployments": {"name": {"any_": ["on-push"]}},
    "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}},
}
"""The promotions that a push started and that are not finished, as Prefect's API filters runs."""


@dataclass(frozen=True)
class Announcer:
    """Announces to the Prefect server of a client, and asks it what it has to finish."""

    client: SyncPrefectClient

    def push(self, pushed: Pushed) -> None:
        """As `announce`."""
        announce(pushed, self.client)

    def catch_up(self, applications: int, pushes: int) -> None:
        """Post `cscm.pushes.waiting`, which starts the run of `reconcile` that looks at all applications.

        A server that never takes it is not asked again: the scheduled run of `reconcile` finds the same.
        """
        event = Event(
            event=WAITING,
            resource=Resource.model_validate({"prefect.resource.id": "cscm.bridge"}),
            payload={"applications": applications, "pushes": pushes},
        )
        try:
            _request(self.client, "/events", [event.model_dump(mode="json")], WAITING)
        except EventNotTaken as error:
            if _status(error) not in NEVER:
                raise
            log.warning("%s", plain(f"{pushes} pushes are left to the next scheduled reconcile: {first_line(error)}"))

    def unfinished(self) -> int:
        """Count the promotions that a push started and that are not finished.

        A server that cannot say so counts as busy: catch-up runs then cover every push, and none waits for ever.
        """
        try:
            return int(_request(self.client, "/flow_runs/count", UNFINISHED, "a question").json())
        except EventNotTaken as error:
            if _status(error) not in NO_ANSWER:
                raise
            log.warning("%s", plain(f"all pushes are left to catch-up runs: {first_line(error)}"))
            return AT_ONCE


def announce(pushed: Pushed, client: SyncPrefectClient) -> None:
    """Post `cscm.image.pushed`; `EventNotTaken` where Prefect does not say that it has it, and `EventUnreadable`
    where it says that it is no event: it would say so each time, and what comes after would wait for ever.

    Not by the way of other events, whose sender is not told whether they arrived.
    """
    what = f"{EVENT} of {pushed.image}"
    try:
        _request(client, "/events", [event_of(pushed).model_dump(mode="json")], what)
    except EventNotTaken as error:
        if _status(error) in NEVER:
            raise EventUnreadable(
                f"Prefect does not take {what} for an event: {_text(error)}\n"
                "It lies in the dead-letter queue (`cscm events dead`); `cscm events replay --all` tries again."
            ) from error
        raise


def _status(error: EventNotTaken) -> int | None:
    """The status with which Prefect refused, where it answered."""
    cause = error.__cause__
    return cause.response.status_code if isinstance(cause, HTTPStatusError) else None


def _text(error: EventNotTaken) -> str:
    cause = error.__cause__
    return cause.response.text[:300] if isinstance(cause, HTTPStatusError) else ""


def _request(client: SyncPrefectClient, path: Literal["/events", "/flow_runs/count"], body: Any, what: str) -> Response:
    try:
        return client.request("POST", path, json=body).raise_for_status()
    except (HTTPError, PrefectException) as error:
        raise EventNotTaken(
            f"Prefect did not take {what}: {error or type(error).__name__}\n"
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
