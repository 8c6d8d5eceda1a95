"""The laptop's unit tests see none of the settings of whoever runs them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home or a profile chosen for `make test` is not the tests' own."""
    for name in ("CSCM_PROFILE", "CSCM_HOME"):
        monkeypatch.delenv(name, raising=False)
