"""A real Prefect server, asked as the project's registration asks it."""

import time

import httpx
import pytest
from prefect.settings import get_current_settings


@pytest.fixture
def ask(machine):
    """Return a function that calls the API of a real server."""

    def asked(method, path, body=None):
        for _ in range(20):
            answer = httpx.request(method, f"{get_current_settings().api.url}{path}", json=body, timeout=30)
            if answer.status_code != 503:  # SQLite was busy; a laptop's server retries
                break
            time.sleep(0.2)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    return asked
