"""The names of turns: what is in them comes out again, also where an application's name has parts."""

import pytest

from tasks.turns import turn_about, turn_name


@pytest.mark.parametrize(
    "about", [("deploy", "staging", "hello"), ("deploy", "staging", "team/hello"), ("curate", "x")]
)
def test_a_name_says_what_it_is_about_and_has_no_slash(about):
    """Prefect takes none in the name of a limit."""
    name = turn_name(*about)

    assert "/" not in name
    assert turn_about(name) == about
