"""How a refusal ends a run: normally, under its own name."""

from __future__ import annotations

from typing import cast

from prefect.states import Completed

from supply_chain.policy.outcome import Refused


def refused(verdict: Refused) -> Refused:
    """What a flow returns whose gate said no, and every enclosing flow too: its callers get the verdict.

    To Prefect it is the run's final state, under a name of its own.
    """
    codes = ", ".join(sorted({reason.code for reason in verdict.reasons}))
    message = f"refused at {verdict.boundary}: {codes}"[:900]
    return cast(Refused, Completed(name="Refused", message=message, data=verdict))
