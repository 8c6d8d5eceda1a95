"""Isolates the unit tests of the laptop from the settings of the user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.release_server import Releases, serve_releases


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset a home or profile that was chosen for `make test`."""
    for name in ("CSCM_PROFILE", "CSCM_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def releases() -> Iterator[Releases]:
    """Serve releases on a free port."""
    with serve_releases() as served:
        yield served
