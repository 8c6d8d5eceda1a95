"""Which paths an ignore file leaves out. Held against BuildKit itself in tests/real."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters import dockerignore
from supply_chain.adapters.dockerignore import LIMIT, ignored
from supply_chain.errors import SourceInvalid

FILES = ("a.py", "src/a.py", "src/deep/er/b.py", "node_modules/x.js", "src/node_modules/keep")


def left(ignore: str) -> set[str]:
    """What is left of the files above."""
    return set(FILES) - ignored(ignore.encode(), FILES)


@pytest.mark.parametrize(
    ("ignore", "rest"),
    [
        ("# nothing\n\n", {"a.py", "src/a.py", "src/deep/er/b.py", "node_modules/x.js", "src/node_modules/keep"}),
        ("src\n**/node_modules\n", {"a.py"}),
        ("*\n!**/*.py\n", {"a.py", "src/a.py", "src/deep/er/b.py"}),
        ("*.py\n", {"src/a.py", "src/deep/er/b.py", "node_modules/x.js", "src/node_modules/keep"}),
        ("src/deep\n!src\n", {"a.py", "src/a.py", "node_modules/x.js", "src/node_modules/keep"}),
        ("src\n!src/*/er\n", {"a.py", "node_modules/x.js", "src/deep/er/b.py"}),
        ("**/node_modules\n!**/node_modules/keep\n", {"a.py", "src/a.py", "src/deep/er/b.py", "src/node_modules/keep"}),
        ("SRC\nA.py\n", {"a.py", "src/a.py", "src/deep/er/b.py", "node_modules/x.js", "src/node_modules/keep"}),
        ("\ufeffsrc\n/node_modules/\n./a.py\n", set()),
        ("**\n!src/a.py\n", {"src/a.py"}),
        ("[a-m]*\n?rc/a.py\nnode*\n!src/node_modules\n", {"src/deep/er/b.py", "src/node_modules/keep"}),
    ],
)
def test_a_list_leaves_out_what_buildkit_leaves_out(ignore: str, rest: set[str]):
    """Later lines before earlier ones, exceptions below what is left out too, and letters as they are."""
    assert left(ignore) == rest


def test_a_pattern_that_is_none_is_an_error():
    """Nothing is left out by guessing."""
    with pytest.raises(SourceInvalid, match="pattern that is none"):
        ignored(b"[z-a]*\n", FILES)


@pytest.mark.parametrize(
    "text", ["#\x0bsecret.py\n", "a\rsecret.py\n", "a\u2028b\n", "[[:alpha:]].py\n", "a\x1eb"], ids=repr
)
def test_patterns_that_the_builder_reads_otherwise_are_no_patterns(text):
    """What a check leaves out and the build takes would be read by nobody."""
    with pytest.raises(SourceInvalid, match="otherwise"):
        ignored(text.encode(), FILES)


def test_patterns_with_the_line_ends_of_windows_are_read():
    """As the builder does."""
    assert ignored(b"a\r\nb\r\n", ["a", "b", "c"]) == {"a", "b"}


PIECES = st.lists(st.sampled_from(["*", "**", "**/", "/", "a", "b", "?", "[ab]", "[^a]", r"\\a", "."]), max_size=8)


@given(PIECES.map("".join), st.text(alphabet="ab/.\n", max_size=12))
def test_a_pattern_matches_what_one_expression_of_its_parts_does(text, path):
    """They are two ways to say the same; this one takes its time once, and the other is not tried twice."""
    parts = tuple(dockerignore._part(token) for token in dockerignore.TOKEN.finditer(text))
    expression = "".join(part.pattern for part in parts)

    assert dockerignore._Pattern(parts, kept=False).matches(path) == bool(re.fullmatch(expression, path))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("*a" * 12 + "b", "a" * 200), ("**/a" * 6 + "/b", "/".join("a" * 60)), ("**/" * 10 + "b", "/".join("a" * 100))],
)
def test_a_pattern_that_could_be_tried_in_many_ways_is_tried_in_one_pass(pattern, path):
    """An expression would try them for years."""
    assert ignored(pattern.encode(), [path]) == frozenset()


def test_more_patterns_than_a_person_writes_are_not_read():
    """Nobody waits for it."""
    with pytest.raises(SourceInvalid, match="more than"):
        ignored(b"#" * (LIMIT + 1), FILES)
