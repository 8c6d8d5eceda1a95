"""A Prefect server that requires a login."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx

LOGIN = "ann:a secret"


class Server:
    """A Prefect server for the tests, with the environment of its clients."""

    def __init__(self, port: int, home: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/api"
        self.environment = {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": LOGIN,
            "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        self.command = [
            *(sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
        ]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Read a path, or filter a list with a body."""
        login = httpx.BasicAuth(*LOGIN.split(":"))
        method = "GET" if body is None else "POST"
        answer = httpx.request(method, f"{self.url}/{path}", json=body, auth=login, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", auth=tuple(LOGIN.split(":")), timeout=5).status_code == 200  # type: ignore[arg-type]
        except httpx.TransportError:
            return False
