"""Sends requests to a Prefect server through Prefect's own client."""

from __future__ import annotations

from typing import Any

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectException

from orchestration.registration.api import PrefectApi
from supply_chain.errors import ComponentFailed


def make_prefect_api(client: SyncPrefectClient) -> PrefectApi:
    """Return a function that sends requests to the client's server."""

    def ask(method: Any, path: Any, body: Any = None) -> Any:
        try:
            response = client.request(method, path, json=body)
        except (HTTPError, PrefectException) as error:
            first, *_ = str(error).splitlines() or [type(error).__name__]
            raise ComponentFailed(
                f"{method} {str(client.api_url).rstrip('/')}{path} failed: {first}\n"
                "Look at PREFECT_API_URL, at what the server asks for, and at its log; then run the same command again."
            ) from error
        return response.json() if response.content else None

    return ask
