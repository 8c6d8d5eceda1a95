"""How a run ends that found or refused something: normally, under a name of its own. Alerts and retries stay quiet."""

from __future__ import annotations

from typing import TypeVar, cast

from prefect import get_run_logger
from prefect.states import Completed

from supply_chain.policy.outcome import Refused
from supply_chain.promotion.freeze import Freeze
from supply_chain.text import plain

T = TypeVar("T")

LONGEST = 900
"""Characters of a state's message; all there is to say is in what the run returns."""


def ended(name: str, message: object, data: T) -> T:
    """What a flow returns to end under this name: its callers get `data`; to Prefect it is the run's final state."""
    return cast(T, Completed(name=name, message=plain(message)[:LONGEST], data=data))


def refused(verdict: Refused) -> Refused:
    """What a flow returns whose gate said no, and every enclosing flow too."""
    codes = ", ".join(sorted({reason.code for reason in verdict.reasons}))
    return ended("Refused", f"refused at {verdict.boundary}: {codes}", verdict)


def held(freeze: Freeze) -> Freeze:
    """What a flow returns that a freeze holds."""
    get_run_logger().info("%s", freeze)
    return ended("Frozen", freeze, freeze)
