"""Reading of JSON that no two programs read differently."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


def read_strict_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises `ValueError` if the text is no JSON, is nested too deeply, or has a name twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=require_unique_names, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def require_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object with these names and values; raise `ValueError` if a name is there twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        ((most, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{most[:80]!r} twice in one object")
    return values


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
