"""A browser, for what a person has to answer."""

from tests.ui.conftest import auth, chromium, ui, window

__all__ = ["auth", "chromium", "ui", "window"]  # fixtures
