"""Keys and tables of pages."""

import re

import pytest

from supply_chain.reports.text import artifact_key, at_most

NAMES = ("hello", "hello-world", "hello_world", "hello.world", "hello/world", "Hello", "a" * 128, "a" * 127, "-", "")


def test_a_key_is_one_that_prefect_takes():
    """Whatever an application is called."""
    for name in NAMES:
        assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", artifact_key("dossier", name)), name


def test_no_two_names_share_a_key():
    """And an ordinary one is itself."""
    assert len({artifact_key("dossier", name) for name in NAMES}) == len(NAMES)
    assert artifact_key("running", "staging", "hello") == "running-staging-hello"


@pytest.mark.parametrize(("number", "last"), [(2, "b"), (3, "2 more")])
def test_what_does_not_fit_is_counted(number, last):
    """In the first column of the last row; every row has the same columns."""
    rows = [{"name": name, "size": "1"} for name in "abc"][:number]

    found = at_most(rows, 2) if number == 2 else at_most(rows, 1)

    assert found[-1]["name"] == last and found[-1].keys() == rows[0].keys()
