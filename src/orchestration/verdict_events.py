"""Emits Prefect events about the verdicts of gates."""

from __future__ import annotations

from typing import Any

from orchestration.events import MOST_ITEMS, emit
from supply_chain.policy.facts import F
from supply_chain.policy.outcome import IMAGE_BLOCKED, Admitted, Refused


def emit_verdict(verdict: Admitted[F] | Refused, facts: F) -> tuple[Admitted[F] | Refused, F]:
    """Emit the verdict as an event, and return it with the facts."""
    gate = verdict.gate.value
    if isinstance(verdict, Refused):
        reasons = [reason.model_dump() for reason in verdict.reasons[:MOST_ITEMS]]
        blocked: dict[str, Any] = {"blocked": "yes"} if IMAGE_BLOCKED in {r.code for r in verdict.reasons} else {}
        emit("image.refused", facts.ref, facts.source, gate=gate, reasons=reasons, **blocked)
    else:
        emit("image.admitted", facts.ref, facts.source, gate=gate, notes=list(verdict.notes))
    return verdict, facts
