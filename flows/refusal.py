"""How a refusal ends a run: normally, under its own name."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed

from supply_chain.policy.outcome import Refused


def refused(verdict: Refused) -> State[Any]:
    """The final state of a flow whose gate said no; every enclosing flow returns it too."""
    codes = ", ".join(sorted({reason.code for reason in verdict.reasons}))
    return Completed(name="Refused", message=f"refused at {verdict.boundary}: {codes}"[:900], data=verdict)
