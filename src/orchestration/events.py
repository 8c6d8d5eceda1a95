"""Emits Prefect events about images and environments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import PrefectException

from supply_chain.errors import EventRejected
from supply_chain.model.image import ImageRef, Source

Origin = Literal["chain", "tier"]
LABELS = {"gate", "blocked"}
"""Keys of a payload that become labels, which a trigger can match."""
MOST_ITEMS = 50
"""Maximum number of reasons, or of other items, in the payload of an event."""
_origin: ContextVar[Origin] = ContextVar("origin", default="tier")


@contextmanager
def mark_as_chain() -> Iterator[None]:
    """Mark the events that the block emits as coming from a whole chain, which starts the next tier itself."""
    token = _origin.set("chain")
    try:
        yield
    finally:
        _origin.reset(token)


def emit(
    event: str, ref: ImageRef, source: Source | None = None, event_uuid: UUID | None = None, **payload: Any
) -> None:
    """Emit `cscm.<event>` about an image's digest; application and revision are related resources.

    `event_uuid` is the event's id, needed if the same event may be emitted again. `origin` says whether the event comes
    from a whole chain or from a tier that runs alone: a trigger that starts the next tier must match only the latter.
    Triggers match labels, so `origin` is a label too. So are the gate (`gate`) of an event about a gate, and
    whether an image was refused because it is blocked.
    """
    related = [_related("application", ref.application, ref.application)]
    if source is not None:
        related.append(_related("revision", source.revision, source.short))
    emit_event(
        event=f"cscm.{event}",
        resource={
            **make_image_resource(ref, _origin.get()),
            **{f"cscm.{label}": payload[label] for label in LABELS & payload.keys()},
        },
        related=related,
        payload={"origin": _origin.get(), "image": str(ref), **payload},
        id=event_uuid,
    )


def emit_about_environment(event: str, environment: str, event_uuid: UUID | None = None, **payload: Any) -> None:
    """Emit `cscm.<event>` about an environment. `event_uuid` is the event's id, as for `emit`."""
    emit_event(
        event=f"cscm.{event}",
        resource={"prefect.resource.id": f"cscm.environment.{environment}", "prefect.resource.name": environment},
        payload={"environment": environment, **payload},
        id=event_uuid,
    )


def post(event: str, about: str, name: str, payload: dict[str, Any]) -> None:
    """Send an event that does not come from a run; raise `EventRejected` if Prefect does not confirm it.

    `about` is the resource's id, `name` its name for people.
    """
    made = Event(
        event=event,
        resource=Resource.model_validate({"prefect.resource.id": about, "prefect.resource.name": name}),
        payload=payload,
    )
    with get_client(sync_client=True) as client:
        send_event(client, made)


def send_event(client: SyncPrefectClient, event: Event) -> None:
    """Send an event and wait for the answer; raise `EventRejected` if Prefect does not confirm it.

    Prefect's usual way to emit events is not used, because it does not report whether an event arrived.
    """
    with require_answer(f"{event.event} of {event.resource.name or event.resource.id}"):
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()


@contextmanager
def require_answer(what: str) -> Iterator[None]:
    """Raise `EventRejected`, with what was sent, if Prefect refuses a request of the block or does not answer."""
    try:
        yield
    except (HTTPError, PrefectException) as error:
        raise EventRejected(
            f"Prefect did not accept {what}: {str(error) or type(error).__name__}\n"
            "Check whether Prefect's server runs (on a laptop, `cscm status`), and try again."
        ) from error


def make_event_id(event: str, what: str) -> UUID:
    """Return the id of an event about a signed statement or a push; it is the same whoever emits the event and when."""
    return uuid5(NAMESPACE_URL, f"cscm.{event}:{what}")


def is_recorded(event_uuid: UUID) -> bool:
    """Return whether Prefect has an event; False if Prefect cannot say: a duplicate is better than a lost event."""
    try:
        with get_client(sync_client=True) as client:
            return bool(client.read_events(EventFilter(id=EventIDFilter(id=[event_uuid])), limit=1).events)
    except (HTTPError, PrefectException):
        return False


def make_image_resource(ref: ImageRef, origin: Origin) -> dict[str, str]:
    """Return the resource of an event about an image."""
    return {
        "prefect.resource.id": f"cscm.image.{ref.digest}",
        "prefect.resource.name": str(ref),
        "cscm.repository": ref.repository,
        "cscm.application": ref.application,
        "cscm.origin": origin,
    }


def _related(role: str, identifier: str, name: str) -> dict[str, str]:
    return {
        "prefect.resource.id": f"cscm.{role}.{identifier}",
        "prefect.resource.role": role,
        "prefect.resource.name": f"{role} {name}",
    }
