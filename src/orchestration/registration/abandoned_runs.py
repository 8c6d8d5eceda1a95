"""Abandoned runs: what nobody works on any more is Crashed by the server, so that its places are free again.

A run that is killed with its worker, or whose machine is gone, would be Running or Pending for ever and keep its place
in its work queue and its pool. The server does this by itself: it needs no place of the pool for it (Prefect
documentation, "Detect zombie flows"). It does so for the runs that carry our tag: a server may be one of many teams.

A run's last sign of life may come after the event of its state, in the moment between its suspension and the end of its
process. Silence alone says nothing of such a run. So a silent run is first moved to Abandoned, a paused state, which
Prefect's rules permit from Running alone (`HandlePausingFlows`); what is Abandoned is then Crashed.
"""

from __future__ import annotations

from typing import Any

from orchestration.registration.api import Asks, every
from orchestration.registration.automations import says
from orchestration.registration.deployments import TAG

LEASE = 300
"""Seconds without a sign of life after which a run is Crashed."""
HEARTBEAT = 30
"""Seconds between two signs of life of a run. By Prefect's default, 180, one that is lost would be too many."""
FREQUENCY = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)}
"""What a worker gives its runs, and a command itself."""
ABANDONED = "Abandoned"
"""The name of the state of a run between its silence and its crash."""
SILENT = "a silent run is Abandoned"
ANY = "prefect.flow-run.*"
OURS = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
"""What events of our runs are related to, signs of life and changes of state alike."""


def abandoned() -> tuple[dict[str, Any], ...]:
    """Return Prefect's automations that crash what nobody works on."""
    silent = f"It gave no sign of life any more for {LEASE} s"
    return (
        _automation(SILENT, _silence_after("prefect.flow-run.heartbeat", LEASE), "PAUSED", ABANDONED, silent),
        _automation("an abandoned run is Crashed", _became(ABANDONED), "CRASHED", "Crashed", silent),
        _automation(  # should the server be restarted between the two
            "a run that stays Abandoned is Crashed",
            _silence_after(f"prefect.flow-run.{ABANDONED}", 60),
            "CRASHED",
            "Crashed",
            silent,
        ),
        _automation(
            "a run that never began is Crashed",
            _silence_after("prefect.flow-run.Pending", LEASE),
            "CRASHED",
            "Crashed",
            f"Its worker took it and is gone for {LEASE} s",
        ),
    )


def ensure_abandoned(ask: Asks) -> tuple[str, ...]:
    """Make these automations, or correct them; the names of those that were made or changed."""
    there = {each["name"]: each for each in every("automations", ask)}
    changed = []
    for body in abandoned():
        found = there.get(body["name"])
        if found is None:
            ask("POST", "/automations/", body)
        elif not says(found, body):
            ask("PUT", f"/automations/{found['id']}", body)
        else:
            continue
        changed.append(body["name"])
    return tuple(changed)


def _automation(name: str, trigger: dict[str, Any], state: str, state_name: str, why: str) -> dict[str, Any]:
    message = f"{why}. What it had begun is taken up again by the run after it."
    return {
        "name": name,
        "description": f"A run of which nothing is heard for {LEASE} s keeps no place and no slot.",
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


def _silence_after(event: str, within: int) -> dict[str, Any]:
    return {"posture": "Proactive", "after": [event], "expect": [ANY], "within": within}


def _became(state_name: str) -> dict[str, Any]:
    return {"posture": "Reactive", "after": [], "expect": [f"prefect.flow-run.{state_name}"], "within": 0}
