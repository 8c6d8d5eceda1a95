"""The protocol for requests to a Prefect server's API, and reading lists from it."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from orchestration import pagination


class PrefectApi(Protocol):
    """A function that sends one request to a server's API."""

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of the answer to a `path` below the API's address; raise `ComponentFailed` on failure."""


def fetch_all(kind: str, ask: PrefectApi) -> list[dict[str, Any]]:
    """Return all objects of a kind."""

    async def read(**page: int) -> list[dict[str, Any]]:
        return list(ask("POST", f"/{kind}/filter", page))

    return asyncio.run(pagination.fetch_all(read))
