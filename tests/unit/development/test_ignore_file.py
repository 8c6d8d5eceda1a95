"""can_reinclude: which ignored directories have to be searched."""

import pytest

from supply_chain.development import ignore_file
from supply_chain.development.ignore_file import can_reinclude


@pytest.mark.parametrize(
    ("ignore", "searched"),
    [
        (b"*\n", False),
        (b"*\n!a/b\n", True),
        (b"*\n!./a//b/\r\n", True),
        (b"*\n!/a/b/c\n!z\n", True),
        (b"*\n!a\n", False),
        (b"*\n!ab/c\n!0\n", False),
        (b"*\n!**/c\n", True),
        (b"*\n!z\n! a/b\n", True),
    ],
)
def test_ignored_directory_is_searched_if_pattern_includes_path_below(ignore, searched):
    """A plain pattern is compared as a path; any other pattern may include every path."""
    assert can_reinclude(ignore, "a") is searched


def test_patterns_are_parsed_once_for_all_ignored_directories(monkeypatch):
    """Parsing thousands of patterns for each of many directories would take an hour."""
    parsed = []

    def normalized(pattern):
        parsed.append(pattern)
        return pattern

    monkeypatch.setattr(ignore_file, "_normalized", normalized)
    ignore = b"*\n" + b"".join(b"!q%d\n" % number for number in range(90))

    assert not any(can_reinclude(ignore, f"d{number}") for number in range(20))
    assert len(parsed) == 90
