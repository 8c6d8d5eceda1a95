"""From the feed's windows to the version ranges of grype's database.

Ranges follow what grype's own builder makes of the same facts, so that both give the same matches;
`tests/real/test_database_builder.py` compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from supply_chain.laptop.feed.model import GoPackage, Window

ALL = Window()
"""Every version."""


def constraint(window: Window) -> str:
    """The window as grype's versions are compared: `>=1.0,<1.2`; empty means every version."""
    lower = [f">={window.introduced}"] if window.introduced else []
    upper = [f"<{window.fixed}"] if window.fixed else [f"<={window.last}"] if window.last else []
    return ",".join(lower + upper)


def go_ranges(package: GoPackage) -> list[dict[str, Any]]:
    """The ranges of a Go package; none means every version."""
    standard = _go_ranges(package.windows)
    if not package.custom:
        return standard
    return _go_ranges(_with_custom(package.windows, package.custom)) or standard


def python_range(window: Window) -> dict[str, Any]:
    """The one range of a row that stands for one window."""
    version: dict[str, Any] = {"type": "python"}
    if window != ALL:
        version["constraint"] = constraint(window)
    fix = {"version": window.fixed, "state": "fixed"} if window.fixed else {"state": "not-fixed"}
    return {"version": version, "fix": fix}


def debian_range(fixed: str) -> dict[str, Any]:
    """Everything before the version that has the fix."""
    return {
        "version": {"type": "dpkg", "constraint": f"< {fixed}"},
        "fix": {"version": fixed, "state": "fixed"},
    }


def _go_ranges(windows: Iterable[Window]) -> list[dict[str, Any]]:
    ranges = []
    for window in windows:
        if window != ALL:
            one: dict[str, Any] = {"version": {"type": "go", "constraint": constraint(window)}}
            if window.fixed:
                one["fix"] = {"version": window.fixed, "state": "fixed"}
            ranges.append(one)
    return ranges


def _with_custom(standard: Sequence[Window], custom: Sequence[Window]) -> Sequence[Window]:
    """Both kinds of windows of one package as one list.

    Custom windows say more where the standard ones say only "everything" or "everything since";
    a bounded window of either kind is kept.
    """
    if tuple(standard) == (ALL,):
        return custom
    if not any(window.closed for window in standard):
        return _from(standard, custom)
    if not any(window.closed for window in custom):
        return _from(custom, _bounded(standard))
    return [*_bounded(standard), *custom]


def _from(floor: Sequence[Window], windows: Sequence[Window]) -> Sequence[Window]:
    """The windows, the first of which begins no earlier than the floor does."""
    lowest = next((window.introduced for window in floor if window.introduced), "")
    if lowest and windows and not windows[0].introduced:
        return [windows[0]._replace(introduced=lowest), *windows[1:]]
    return windows


def _bounded(windows: Sequence[Window]) -> Sequence[Window]:
    """The windows up to the last that ends."""
    ends = [number for number, window in enumerate(windows, 1) if window.closed]
    return windows[: ends[-1]]
