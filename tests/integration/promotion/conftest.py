"""A browser for approvals; it is closed before other tests open theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState
from cscm_laptop.prefect_server import ensure_auth_string
from tests.support.ui import Ui, eyes, logged_in, started


@pytest.fixture(scope="module")
def ui(laptop: LaptopState, home: Home) -> Iterator[Ui]:
    """Prefect's UI, logged in."""
    auth = ensure_auth_string(home)
    with started() as browser, logged_in(browser, laptop, auth) as window, eyes(window, laptop, auth) as session:
        yield session
