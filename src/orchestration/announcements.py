"""Announces image pushes to a Prefect server as events, and confirms that the server has taken them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from httpx import HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.events import Event, Resource

from orchestration.events import make_event_id, make_image_resource, require_answer, send_event
from orchestration.waiting_runs import WAITING
from supply_chain.errors import EventRejected, EventUnreadable
from supply_chain.promotion.coalescing import AT_ONCE
from supply_chain.promotion.pushes import Pushed
from supply_chain.text import sanitize_text, summarize_error

EVENT = "cscm.image.pushed"
PUSHES_WAITING = "cscm.pushes.waiting"
NEVER = (400, 413, 422)
"""HTTP statuses with which the server rejects the event itself, so that another attempt cannot succeed."""
NO_ANSWER = (*NEVER, 404, 405)
"""HTTP statuses with which this server will never answer a question, however often it is asked."""
log = logging.getLogger("supply_chain.bridge")
UNFINISHED = {
    "flows": {"name": {"any_": ["promote"]}},
    "deployments": {"name": {"any_": ["on-push"]}},
    "flow_runs": {
        "state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}, "name": {"not_any_": [WAITING]}},
    },
}
"""Filter of Prefect's API for unfinished promotions that a push started. One that waits for evidence has no slot."""


@dataclass(frozen=True)
class PrefectAnnouncer:
    """Announces pushes to the Prefect server of a client, and reads how many promotions are unfinished."""

    client: SyncPrefectClient

    def push(self, pushed: Pushed, *, followed: bool) -> None:
        """Announce a push, as `announce` does."""
        announce(pushed, self.client, followed=followed)

    def announce_catch_up(self, applications: int, pushes: int) -> None:
        """Post `cscm.pushes.waiting`, which starts the run of `catch-up` that checks all applications.

        If the server rejects the event itself, it is not sent again: the scheduled run of `catch-up` does the same
        work.
        """
        event = Event(
            event=PUSHES_WAITING,
            resource=Resource.model_validate({"prefect.resource.id": "cscm.bridge"}),
            payload={"applications": applications, "pushes": pushes},
        )
        try:
            send_event(self.client, event)
        except EventRejected as error:
            if _status(error) not in NEVER:
                raise
            log.warning(
                "%s",
                sanitize_text(f"{pushes} pushes are left to the next scheduled catch-up: {summarize_error(error)}"),
            )

    def count_unfinished(self) -> int:
        """Return the number of unfinished promotions that a push started, without those that wait for evidence.

        A server that cannot answer this counts as busy: catch-up runs then cover every push, and no push waits forever.
        """
        try:
            with require_answer("a question"):
                return int(self.client.request("POST", "/flow_runs/count", json=UNFINISHED).raise_for_status().json())
        except EventRejected as error:
            if _status(error) not in NO_ANSWER:
                raise
            log.warning("%s", sanitize_text(f"all pushes are left to catch-up runs: {summarize_error(error)}"))
            return AT_ONCE


def announce(pushed: Pushed, client: SyncPrefectClient, *, followed: bool) -> None:
    """Post `cscm.image.pushed` and check that Prefect has taken it.

    Raises `EventRejected` if Prefect does not confirm it, and `EventUnreadable` if Prefect says that it is not a valid
    event: every further attempt would fail too, and later pushes would wait forever.
    """
    try:
        send_event(client, make_event(pushed, followed=followed))
    except EventRejected as error:
        if _status(error) in NEVER:
            raise EventUnreadable(
                f"Prefect does not accept {EVENT} of {pushed.image} as an event: {_error_text(error)}\n"
                "It is in the dead-letter queue (`cscm events dead`); `cscm events replay --all` tries again."
            ) from error
        raise


def _status(error: EventRejected) -> int | None:
    """Return the HTTP status with which Prefect refused the event; None if it did not answer."""
    cause = error.__cause__
    return cause.response.status_code if isinstance(cause, HTTPStatusError) else None


def _error_text(error: EventRejected) -> str:
    cause = error.__cause__
    return cause.response.text[:300] if isinstance(cause, HTTPStatusError) else ""


def make_event(pushed: Pushed, *, followed: bool) -> Event:
    """Return the event of a push; the same push gives an event with the same ID, however often it is received."""
    ref = pushed.image
    image = {"image": str(ref), "repository": ref.repository, "digest": ref.digest, "tag": pushed.tag}
    payload = {**image, "followed": followed}
    return Event(
        id=make_event_id("image.pushed", pushed.event),
        occurred=pushed.at,
        event=EVENT,
        resource=Resource.model_validate(make_image_resource(ref, "tier")),
        payload={"origin": "tier", **payload},
    )
