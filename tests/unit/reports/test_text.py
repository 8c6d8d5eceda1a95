"""Artifact keys and table lengths."""

import re

import pytest

from supply_chain.reports.text import make_artifact_key, truncate_rows

NAMES = ("hello", "hello-world", "hello_world", "hello.world", "hello/world", "Hello", "a" * 128, "a" * 127, "-", "")


def test_artifact_key_is_valid_for_prefect():
    """The name of the application does not matter."""
    for name in NAMES:
        assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", make_artifact_key("run-report", name)), name


def test_artifact_keys_are_unique_and_readable():
    """A plain name is used unchanged."""
    assert len({make_artifact_key("run-report", name) for name in NAMES}) == len(NAMES)
    assert make_artifact_key("address", "staging", "hello") == "address-staging-hello"


@pytest.mark.parametrize("words", [("run-report", "team/shop"), ("run-report", "a" * 128), ("address", "eu-1", "shop")])
def test_different_words_have_different_artifact_keys(words):
    """Whoever chooses an application's name would write over the pages of another one."""
    key = make_artifact_key(*words)

    assert make_artifact_key(words[0], key.removeprefix(f"{words[0]}-")) != key
    assert make_artifact_key("address", "eu", "1-shop") != make_artifact_key("address", "eu-1", "shop")


@pytest.mark.parametrize(("number", "last"), [(2, "b"), (3, "2 more")])
def test_long_table_ends_with_number_of_omitted_rows(number, last):
    """The count is in the first column, and every row has the same columns."""
    rows = [{"name": name, "size": "1"} for name in "abc"][:number]

    found = truncate_rows(rows, 2) if number == 2 else truncate_rows(rows, 1)

    assert found[-1]["name"] == last and found[-1].keys() == rows[0].keys()
