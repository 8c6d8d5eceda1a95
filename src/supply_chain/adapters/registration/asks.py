"""How a Prefect server is asked."""

from __future__ import annotations

from typing import Any, Protocol


class Asks(Protocol):
    """One request to a server's API."""

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a successful answer to a `path` below the API's address; `PartFailed` for any other."""
