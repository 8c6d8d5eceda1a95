"""Makes Prefect's automations that end abandoned runs, so that their slots are free again.

A run that is killed with its worker, or whose machine is gone, would stay Running or Pending forever and keep its slot
in its work queue and its pool. The server does this itself, so that it needs no slot of the pool (Prefect
documentation, "Detect zombie flows"). It does so only for runs with the project's tag, because a server may serve many
teams.

The last heartbeat of a run may arrive after the event of its state, between its suspension and the end of its process.
Silence alone therefore proves nothing about such a run. So a silent run is first moved to Abandoned, a paused state,
which Prefect's rules permit only from Running (`HandlePausingFlows`). An Abandoned run is then moved to Crashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestration.registration.api import PrefectApi
from orchestration.registration.automations import ensure_each
from orchestration.registration.deployments import TAG

LEASE = 300
"""Seconds without a heartbeat after which a run is Crashed."""
HEARTBEAT = 30
"""Seconds between two heartbeats of a run. With Prefect's default, 180, a single lost heartbeat would be too many."""
FREQUENCY = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)}
"""Environment that a worker sets for its runs, and a command for itself."""
ABANDONED = "Abandoned"
"""Name of the state of a run after its heartbeats stop and before it is Crashed."""
SILENT = "a silent run is Abandoned"
NOT_STARTED = ("Pending", "Submitting")
"""Names of the states of a run that a worker accepted and has not started. In InfrastructurePending, what the worker
created starts by itself, after it has pulled an image.
"""
CANCELLING = "Cancelling"
"""Name of the state of a run that was cancelled and whose worker has not ended it."""
ANY = "prefect.flow-run.*"
OURS = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
"""Related resource of all events of the project's runs: heartbeats and changes of state."""


def abandoned_run_automations() -> tuple[dict[str, Any], ...]:
    """Return Prefect's automations that end abandoned runs."""
    silent = f"It sent no heartbeat for {LEASE} s"
    return (
        _automation(SILENT, _expect_silence(["heartbeat"], LEASE), "PAUSED", ABANDONED, silent),
        _automation("an abandoned run is Crashed", _expect_state(ABANDONED), "CRASHED", "Crashed", silent),
        _automation(  # in case the server restarts between the two
            "a run that stays Abandoned is Crashed",
            _expect_silence([ABANDONED], 60),
            "CRASHED",
            "Crashed",
            silent,
        ),
        _automation(
            "a run that never started is Crashed",
            _expect_silence(NOT_STARTED, LEASE),
            "CRASHED",
            "Crashed",
            f"Its worker accepted it and has been silent for {LEASE} s",
        ),
        _automation(
            "a run that stays Cancelling is Cancelled",
            _expect_silence([CANCELLING], LEASE),
            "CANCELLED",
            "Cancelled",
            f"It was cancelled, and has been silent for {LEASE} s",
        ),
    )


def ensure_abandoned(ask: PrefectApi) -> tuple[str, ...]:
    """Create or correct these automations; return the names of those that were created or changed."""
    return ensure_each(abandoned_run_automations(), ask)


def _automation(name: str, trigger: dict[str, Any], state: str, state_name: str, why: str) -> dict[str, Any]:
    message = f"{why}. The next run continues its work."
    return {
        "name": name,
        "description": f"A run without a heartbeat for {LEASE} s loses its slots.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "match": {"prefect.resource.id": ANY},
            "match_related": OURS,
            "threshold": 1,
            "for_each": ["prefect.resource.id"],
            **trigger,
        },
        "actions": [{"type": "change-flow-run-state", "state": state, "name": state_name, "message": message}],
    }


def _expect_silence(events: Sequence[str], within: int) -> dict[str, Any]:
    after = [f"prefect.flow-run.{each}" for each in events]
    return {"posture": "Proactive", "after": after, "expect": [ANY], "within": within}


def _expect_state(state_name: str) -> dict[str, Any]:
    return {"posture": "Reactive", "after": [], "expect": [f"prefect.flow-run.{state_name}"], "within": 0}
