"""Events: what happened to an image, for whoever acts on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectException

from supply_chain.model.image import ImageRef, Source

Origin = Literal["chain", "tier"]
LABELS = {"boundary", "blocked"}
"""What a payload says that a trigger may match."""
_origin: ContextVar[Origin] = ContextVar("origin", default="tier")


@contextmanager
def in_a_chain() -> Iterator[None]:
    """What is emitted in this block comes out of a whole chain, which goes on by itself."""
    token = _origin.set("chain")
    try:
        yield
    finally:
        _origin.reset(token)


def emit(event: str, ref: ImageRef, source: Source | None = None, number: UUID | None = None, **payload: Any) -> None:
    """Emit `cscm.<event>` about an image's digest; application and revision are related resources.

    `number` is the event's own, where the same one may be emitted again. `origin` says whether the event
    comes out of a whole chain or of one tier run alone: a trigger that starts the next tier has to match the
    latter only. It can match labels, so it is one of those too, and so is the boundary of an event that is
    about one, and whether an image was refused because it is blocked.
    """
    related = [_related("application", ref.application, ref.application)]
    if source is not None:
        related.append(_related("revision", source.revision, source.short))
    emit_event(
        event=f"cscm.{event}",
        resource={
            **about(ref, _origin.get()),
            **{f"cscm.{label}": payload[label] for label in LABELS & payload.keys()},
        },
        related=related,
        payload={"origin": _origin.get(), "image": str(ref), **payload},
        id=number,
    )


def post(event: str, about: str, name: str, payload: dict[str, Any], related: Sequence[dict[str, str]] = ()) -> None:
    """Emit an event that comes of no run, and wait until it is sent: who posts it may end at once.

    `about` is the resource's id, `name` what people call it.
    """
    emit_event(
        event=event,
        resource={"prefect.resource.id": about, "prefect.resource.name": name},
        related=list(related),
        payload=payload,
    )
    EventsWorker.instance().drain()


def numbered(event: str, what: str) -> UUID:
    """The number of an event that tells of a signed statement or of a push: the same, whoever tells of it and when."""
    return uuid5(NAMESPACE_URL, f"cscm.{event}:{what}")


def is_known(number: UUID) -> bool:
    """Whether Prefect has an event. No where it cannot say: better told twice than never."""
    try:
        with get_client(sync_client=True) as client:
            return bool(client.read_events(EventFilter(id=EventIDFilter(id=[number])), limit=1).events)
    except (HTTPError, PrefectException):
        return False


def about(ref: ImageRef, origin: Origin) -> dict[str, str]:
    """The resource of an event about an image."""
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
