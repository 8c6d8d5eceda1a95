"""Ends runs that found or refused something in a Completed state with its own name: no alert or retry follows."""

from __future__ import annotations

from typing import TypeVar, cast

from prefect import get_run_logger
from prefect.states import Completed

from supply_chain.policy.outcome import Refused
from supply_chain.promotion.freeze import Freeze
from supply_chain.text import plain

T = TypeVar("T")

LONGEST = 900
"""Maximum characters of a state's message; the complete information is in the run's result."""


def ended(name: str, message: object, data: T) -> T:
    """Return a Completed state with this name for a flow to return.

    Its callers get `data`; for Prefect it is the run's final state.
    """
    return cast(T, Completed(name=name, message=plain(message)[:LONGEST], data=data))


def refused(verdict: Refused) -> Refused:
    """Return the result of a flow whose gate refused, and of every enclosing flow."""
    codes = ", ".join(sorted({reason.code for reason in verdict.reasons}))
    return ended("Refused", f"refused at {verdict.boundary}: {codes}", verdict)


def held(freeze: Freeze) -> Freeze:
    """Return the result of a flow that a promotion freeze stops."""
    get_run_logger().info("%s", freeze)
    return ended("Frozen", freeze, freeze)
