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
SILENT_STATES = (
    "Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Suspended", "AwaitingRetry",
    "Waiting", "Refused", "Frozen", "Unneeded",
)  # fmt: skip
"""Names of the states in which a run sends no heartbeat. In a state with another name, the action fails: only a Running
run becomes Abandoned.
"""
ANY = "prefect.flow-run.*"
OURS = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
"""Related resource of all events of the project's runs: heartbeats and changes of state."""


def make_abandoned_run_automations() -> tuple[dict[str, Any], ...]:
    """Return Prefect's automations that end abandoned runs."""
    silent = f"It sent no heartbeat for {LEASE} s"
    heard, abandoned, crashed = _events("heartbeat"), _events(ABANDONED), _events("Crashed")
    return (
        _automation(SILENT, _expect(heard + _events(*SILENT_STATES), heard, LEASE), "PAUSED", ABANDONED, silent),
        _automation("an abandoned run is Crashed", _expect(abandoned), "CRASHED", "Crashed", silent),
        _automation(  # in case the server restarts between the two
            "a run that stays Abandoned is Crashed", _expect(crashed, abandoned, 60), "CRASHED", "Crashed", silent
        ),
        _automation(
            "a run that never started is Crashed",
            _expect([ANY], _events(*NOT_STARTED), LEASE),  # any sign of life, also if one event is lost
            "CRASHED",
            "Crashed",
            f"Its worker accepted it and has been silent for {LEASE} s",
        ),
    )


def ensure_abandoned(ask: PrefectApi) -> tuple[str, ...]:
    """Create or correct these automations; return the names of those that were created or changed."""
    return ensure_each(make_abandoned_run_automations(), ask)


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


def _events(*names: str) -> list[str]:
    return [f"prefect.flow-run.{each}" for each in names]


def _expect(events: Sequence[str], after: Sequence[str] = (), within: int = 0) -> dict[str, Any]:
    """Return a trigger for one of these events, or for none of them in so many seconds after one of the others.

    Of every run, the server stores the events that a trigger of the second kind expects, each in a transaction.
    """
    posture = "Proactive" if after else "Reactive"
    return {"posture": posture, "after": list(after), "expect": list(events), "within": within}
