"""Ends runs that found or refused something in a Completed state with its own name: no alert or retry follows."""

from __future__ import annotations

from typing import TypeVar, cast

from prefect import get_run_logger
from prefect.states import Completed

from supply_chain.policy.outcome import Refused
from supply_chain.promotion.freeze import PromotionFreeze
from supply_chain.text import sanitize_text

T = TypeVar("T")

LONGEST = 900
"""Maximum characters of a state's message; the complete information is in the run's result."""


UNNEEDED = "Unneeded"
"""Name of the final state of a run that another one replaces."""


def complete_as(name: str, message: object, data: T) -> T:
    """Return a Completed state with this name for a flow to return.

    Its callers get `data`; for Prefect it is the run's final state.
    """
    return cast(T, Completed(name=name, message=sanitize_text(message)[:LONGEST], data=data))


def complete_refused(verdict: Refused) -> Refused:
    """Return the result of a flow whose gate refused, and of every enclosing flow."""
    codes = ", ".join(sorted({reason.code for reason in verdict.reasons}))
    return complete_as("Refused", f"refused at the {verdict.gate} gate: {codes}", verdict)


def complete_frozen(freeze: PromotionFreeze) -> PromotionFreeze:
    """Return the result of a flow that a promotion freeze stops."""
    get_run_logger().info("%s", freeze)
    return complete_as("Frozen", freeze, freeze)
