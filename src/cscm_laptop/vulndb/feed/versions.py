"""Converts the feed's windows to the version ranges of grype's database.

Ranges are those that grype's own builder makes from the same facts, so that both databases give the same matches;
`tests/integration/test_database_builder.py` compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from cscm_laptop.vulndb.feed.model import GoPackage, Window

PYTHON_VERSION = re.compile(
    r"v?(\d+!)?\d+(\.\d+)*"
    r"([-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?\d*)?"
    r"(-\d+|[-_.]?(post|rev|r)[-_.]?\d*)?"
    r"([-_.]?dev[-_.]?\d*)?"
    r"(\+[a-z0-9]+([-_.][a-z0-9]+)*)?",
    re.IGNORECASE,
)
"""A version in any spelling that PEP 440 allows (its appendix B)."""

ALL = Window()
"""Every version."""


def render_constraint(window: Window) -> str:
    """Return the window as a constraint for grype, such as `>=1.0,<1.2`; empty means every version."""
    lower = [f">={window.introduced}"] if window.introduced else []
    upper = [f"<{window.fixed}"] if window.fixed else [f"<={window.last}"] if window.last else []
    return ",".join(lower + upper)


def list_go_ranges(package: GoPackage, published: datetime | None = None) -> list[dict[str, Any]]:
    """Return the ranges of a Go package; none means every version.

    A fix counts as available since the advisory was `published`, if that date is known.
    """
    standard = _go_ranges(package.windows, published)
    if not package.custom:
        return standard
    return _go_ranges(_with_custom(package.windows, package.custom), published) or standard


def make_python_range(window: Window) -> dict[str, Any]:
    """Return the range of a database row that stands for one window.

    If an end is not a Python version (a date, a hash), the range has grype's type for unknown versions.
    """
    valid = all(PYTHON_VERSION.fullmatch(end) for end in window if end)
    version: dict[str, Any] = {"type": "python" if valid else "Unknown"}
    if window != ALL:
        version["constraint"] = render_constraint(window)
    fix = {"version": window.fixed, "state": "fixed"} if window.fixed else {"state": "not-fixed"}
    return {"version": version, "fix": fix}


def make_debian_range(fixed: str) -> dict[str, Any]:
    """Return the range of all versions before the one that has the fix."""
    return {
        "version": {"type": "dpkg", "constraint": f"< {fixed}"},
        "fix": {"version": fixed, "state": "fixed"},
    }


def _go_ranges(windows: Iterable[Window], published: datetime | None) -> list[dict[str, Any]]:
    available = published and {"date": published.date().isoformat(), "kind": "first-observed-record"}
    ranges = []
    for window in windows:
        if window != ALL:
            one: dict[str, Any] = {"version": {"type": "go", "constraint": render_constraint(window)}}
            if window.fixed:
                one["fix"] = {"version": window.fixed, "state": "fixed"}
                one["fix"] |= {"detail": {"available": available}} if available else {}
            ranges.append(one)
    return ranges


def _with_custom(standard: Sequence[Window], custom: Sequence[Window]) -> Sequence[Window]:
    """Return both kinds of windows of one package as one list.

    Custom windows say more where the standard ones say only "everything" or "everything since". A window with an end,
    of either kind, is always included.
    """
    if tuple(standard) == (ALL,):
        return custom
    if not any(window.closed for window in standard):
        return _apply_floor(standard, custom)
    if not any(window.closed for window in custom):
        return _apply_floor(custom, _drop_open_end(standard))
    return [*_drop_open_end(standard), *custom]


def _apply_floor(floor: Sequence[Window], windows: Sequence[Window]) -> Sequence[Window]:
    """Return the windows; if the first has no start, it gets the first start in `floor`."""
    lowest = next((window.introduced for window in floor if window.introduced), "")
    if lowest and windows and not windows[0].introduced:
        return [windows[0]._replace(introduced=lowest), *windows[1:]]
    return windows


def _drop_open_end(windows: Sequence[Window]) -> Sequence[Window]:
    """Return the windows up to the last one that has an end."""
    ends = [number for number, window in enumerate(windows, 1) if window.closed]
    return windows[: ends[-1]]
