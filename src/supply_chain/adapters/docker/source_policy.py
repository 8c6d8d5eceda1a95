"""BuildKit source policy (github.com/moby/buildkit/sourcepolicy) that denies all sources but the resolved ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supply_chain.development.dockerfile import CONTEXT, IMAGE

LOCALS = (CONTEXT, "local://dockerfile")
"""Sources that BuildKit gets from its client: the context, and the Dockerfile with its ignore file."""


def make_source_policy(images: Mapping[str, str], fetched: Mapping[str, str]) -> dict[str, Any]:
    """Return a policy that denies all sources except the client's and the given ones.

    `images`: name in the Dockerfile → address by digest. `fetched`: URL → name of the client's directory with its
    content. The last matching rule decides, and BuildKit evaluates all rules again after a conversion.
    """
    rules: list[dict[str, Any]] = [{"action": "DENY", "selector": {"identifier": "*", "matchType": "WILDCARD"}}]
    converted = [
        *((f"{IMAGE}{name}", f"{IMAGE}{address}") for name, address in images.items()),
        *((url, f"local://{name}") for url, name in fetched.items()),
    ]
    for identifier in dict.fromkeys((*LOCALS, *(address for _, address in converted))):
        rules.append({"action": "ALLOW", "selector": _match_exactly(identifier)})
    for identifier, address in converted:
        if identifier != address:
            update = {"identifier": address}
            rules.append({"action": "CONVERT", "selector": _match_exactly(identifier), "updates": update})
    return {"rules": rules}


def _match_exactly(identifier: str) -> dict[str, str]:
    return {"identifier": identifier, "matchType": "EXACT"}
