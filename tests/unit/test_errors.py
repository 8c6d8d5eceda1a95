"""Error classes: unique codes, documentation and retryability."""

import inspect
import re

import pytest

from supply_chain import errors
from supply_chain.errors import SupplyChainError

EVERY = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, SupplyChainError)]


def test_error_classes_are_found():
    """Otherwise the other tests would pass without testing anything."""
    assert len(EVERY) > 20


def test_error_codes_are_unique():
    """A published code has one meaning."""
    codes = [error.code for error in EVERY]

    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("error", EVERY, ids=lambda e: e.__name__)
def test_error_class_has_own_code_and_docstring(error):
    """It does not inherit them."""
    assert "code" in vars(error)
    assert re.fullmatch(r"[a-z]+(\.[a-z][a-z-]*)+", error.code)
    assert "__doc__" in vars(error) and error.__doc__ and error.__doc__.strip().endswith(".")


@pytest.mark.parametrize("error", EVERY, ids=lambda e: e.__name__)
def test_error_text_ends_with_code(error):
    """A reader can look it up."""
    assert str(error("it broke\nmend it")) == f"it broke\nmend it [{error.code}]"


def test_only_temporary_errors_are_retryable():
    """Invalid input, denied access and damage do not pass."""
    again = {error.code for error in EVERY if error.retryable}

    assert again == {
        "registry.unavailable", "aws.unavailable", "engine.unavailable", "engine.image-gone", "inventory.unavailable",
        "event.rejected", "gate.superseded", "image.archived", "cluster.unavailable", "git.unavailable",
        "packages.index-unavailable",
    }  # fmt: skip
