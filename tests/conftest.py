"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest

pytest.register_assert_rewrite("tests.contract")  # its assertions say what they saw, as those of any test

GARBAGE = 50_000
"""Objects after which Python looks for garbage. With its own 700, a quarter of the time of the tests goes there."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among what is imported and collected, which stays until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(GARBAGE)
        gc.enable()
