"""Recorded documents for fuzz tests, and a strategy that changes one thing in a document."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

ASSETS = Path(__file__).parents[2] / "assets"
"""Recorded output of grype 0.121.2, syft 1.57.0 and cosign 3.1.3, reduced to a few packages."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def recorded(name: str) -> Any:
    return json.loads((ASSETS / name).read_text(encoding="utf-8"))


def places(value: Any, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value in a document, without its root."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    return [each for key, part in inside for each in ((*above, key), *places(part, (*above, key)))]


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """Draw the document, still valid JSON, with one value removed, doubled, moved or replaced."""
    result = copy.deepcopy(document)
    *above, key = draw(st.sampled_from(places(document)))
    holder = result
    for each in above:
        holder = holder[each]
    how = draw(st.sampled_from(["another", "removed", "doubled", "moved"]))
    if how == "removed":
        del holder[key]
    elif how == "doubled":
        holder[key] = [holder[key], holder[key]]
    elif how == "moved":
        other: Any = document
        for each in draw(st.sampled_from(places(document))):
            other = other[each]
        holder[key] = copy.deepcopy(other)
    else:
        holder[key] = draw(JSON)
    return result
