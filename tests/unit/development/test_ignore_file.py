"""can_reinclude: which ignored directories have to be searched."""

import time

import pytest

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


def test_many_ignored_directories_and_patterns_take_little_time():
    """The patterns are parsed once; parsing them for each directory takes a minute here."""
    ignore = b"*\n" + b"".join(b"!q%d\n" % number for number in range(9000))
    start = time.process_time()

    assert not any(can_reinclude(ignore, f"d{number}") for number in range(2000))
    assert time.process_time() - start < 5
