"""Errors: each has its own code, says when it is raised, and knows whether trying again may help."""

import inspect
import re

import pytest

from supply_chain import errors
from supply_chain.errors import SupplyChainError

EVERY = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, SupplyChainError)]


def test_there_are_errors():
    """Otherwise the tests below would pass for nothing."""
    assert len(EVERY) > 20


def test_codes_are_unique():
    """A published code means one thing."""
    codes = [error.code for error in EVERY]

    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("error", EVERY, ids=lambda e: e.__name__)
def test_an_error_has_a_code_and_a_meaning_of_its_own(error):
    """Not the one of the class it comes from."""
    assert "code" in vars(error)
    assert re.fullmatch(r"[a-z]+(\.[a-z][a-z-]*)+", error.code)
    assert "__doc__" in vars(error) and error.__doc__ and error.__doc__.strip().endswith(".")


@pytest.mark.parametrize("error", EVERY, ids=lambda e: e.__name__)
def test_an_error_shows_its_code_after_its_message(error):
    """So that it can be looked up."""
    assert str(error("it broke\nmend it")) == f"it broke\nmend it [{error.code}]"


def test_only_what_may_pass_by_itself_is_tried_again():
    """Bad input, refused access and damage stay what they are."""
    again = {error.code for error in EVERY if error.retryable}

    assert again == {
        "registry.unavailable", "aws.unavailable", "engine.unavailable", "engine.image-gone", "inventory.unavailable",
        "event.not-taken", "gate.overtaken", "image.archived",
    }  # fmt: skip
