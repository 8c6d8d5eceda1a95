"""How a Prefect server is asked."""

from __future__ import annotations

from typing import Any, Protocol

PAGE = 200
"""Of which a server gives at once; it gives no more."""


class Asks(Protocol):
    """One request to a server's API."""

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a successful answer to a `path` below the API's address; `PartFailed` for any other."""


def every(kind: str, ask: Asks) -> list[dict[str, Any]]:
    """All of a kind, page by page."""
    found: list[dict[str, Any]] = []
    while page := ask("POST", f"/{kind}/filter", {"limit": PAGE, "offset": len(found)}):
        found += page
    return found
