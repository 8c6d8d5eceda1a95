"""Events: what happened to an image, for whoever acts on it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from prefect.events import emit_event
from prefect.runtime import flow_run

from supply_chain.image import ImageRef, Source


def emit(event: str, ref: ImageRef, source: Source | None = None, **payload: Any) -> None:
    """Emit `cscm.<event>` about an image's digest; application and revision are related resources.

    `origin` says whether the event comes out of a whole chain or of one tier run alone: a trigger
    that starts the next tier has to match the latter only.
    """
    related = [_related("application", ref.application, ref.application)]
    if source is not None:
        related.append(_related("revision", source.revision, source.short))
    emit_event(
        event=f"cscm.{event}",
        resource={
            "prefect.resource.id": f"cscm.image.{ref.digest}",
            "prefect.resource.name": str(ref),
            "cscm.repository": ref.repository,
            "cscm.application": ref.application,
        },
        related=related,
        payload={"origin": _origin(flow_run.id), "image": str(ref), **payload},
    )


@lru_cache(maxsize=16)
def _origin(run: str | None) -> str:
    """Whether this run, the current one, is part of a chain; Prefect's API is asked once for each run."""
    return "chain" if run and flow_run.parent_flow_run_id else "tier"


def _related(role: str, identifier: str, name: str) -> dict[str, str]:
    return {
        "prefect.resource.id": f"cscm.{role}.{identifier}",
        "prefect.resource.role": role,
        "prefect.resource.name": f"{role} {name}",
    }
