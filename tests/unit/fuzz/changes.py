"""What fuzz tests share: recorded documents, and documents with one thing changed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

ASSETS = Path(__file__).parents[2] / "assets"
"""What grype 0.121.2, syft 1.57.0 and cosign 3.1.3 wrote, cut to a few packages."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def recorded(name: str) -> Any:
    return json.loads((ASSETS / name).read_text(encoding="utf-8"))


def places(value: Any, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where something stands in a document, its root left out."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    return [each for key, part in inside for each in ((*above, key), *places(part, (*above, key)))]


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """The document, valid JSON still, with one thing in it left out, doubled, moved or made another."""
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
