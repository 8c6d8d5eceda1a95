"""The files of a build context: what an image can take from it. Held against BuildKit itself in tests/real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supply_chain.adapters.context_files import LIMIT, BuildContext, portions, told

from supply_chain.adapters import context_files
from supply_chain.errors import CheckNotMade

FILES = ("Dockerfile", "a.py", "src/a.py", "src/deep/er/b.py", "node_modules/x.js", "src/node_modules/keep")


def files(directory: Path, ignore: str | None = None, own: str | None = None) -> set[str]:
    """What is left of the files above."""
    for name in FILES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("")
    if ignore is not None:
        (directory / ".dockerignore").write_text(ignore)
    if own is not None:
        (directory / "Dockerfile.dockerignore").write_text(own)
    found = set(BuildContext(directory, directory / "Dockerfile").files())
    return found - {".dockerignore", "Dockerfile.dockerignore", "Dockerfile"}


def test_without_a_list_everything_is_taken(tmp_path: Path):
    """Tracked by git or not."""
    assert files(tmp_path) == set(FILES) - {"Dockerfile"}


@pytest.mark.parametrize(
    ("ignore", "left"),
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
def test_a_list_leaves_out_what_buildkit_leaves_out(tmp_path: Path, ignore: str, left: set[str]):
    """Later lines before earlier ones, exceptions below what is left out too, and letters as they are."""
    assert files(tmp_path, ignore) == left


def test_a_dockerfiles_own_list_takes_the_place_of_the_directorys(tmp_path: Path):
    """BuildKit looks for it first."""
    assert files(tmp_path, "src\n", own="a.py\nnode_modules\n**/node_modules\n") == {"src/a.py", "src/deep/er/b.py"}


def test_links_are_not_followed(tmp_path: Path):
    """Neither out of the context nor in a circle; what they lead to inside is read where it lies."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("")
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "file").symlink_to(tmp_path / "outside" / "secret")
    (directory / "directory").symlink_to(tmp_path / "outside")
    (directory / "circle").symlink_to(".")
    (directory / "nowhere").symlink_to("nothing")

    assert files(directory) == set(FILES) - {"Dockerfile"}


def test_a_name_that_is_no_text_is_an_error(tmp_path: Path):
    """BuildKit takes such a file; what cannot be named cannot be told."""
    (tmp_path / "caf\udce9.py").write_text("")

    with pytest.raises(CheckNotMade, match=r"caf\\xe9\.py"):
        files(tmp_path)


def test_a_pattern_that_is_none_is_an_error(tmp_path: Path):
    """Nothing is left out by guessing."""
    with pytest.raises(CheckNotMade, match="dockerignore"):
        files(tmp_path, "[z-a]*\n")


def test_no_file_looks_like_an_option():
    """And a command line is never too long."""
    assert [len(part) for part in portions([str(n) for n in range(2500)])] == [1000, 1000, 500]
    assert list(portions(["--exclude"])) == [["./--exclude"]]
    assert list(portions([])) == []


def test_files_are_told_in_a_sentence():
    """Counted; none for none."""
    assert told("file", "not read", ["a"]) == ("1 file not read: a",)
    assert told("file", "not read", ["a", "b", "c"], most=2) == ("3 files not read: a, b and 1 more",)
    assert told("file", "not read", []) == ()


@pytest.mark.parametrize(
    "text", ["#\x0bsecret.py\n", "a\rsecret.py\n", "a\u2028b\n", "[[:alpha:]].py\n", "a\x1eb"], ids=repr
)
def test_patterns_that_the_builder_reads_otherwise_are_no_patterns(tmp_path, text):
    """What a check leaves out and the build takes would be read by nobody."""
    (tmp_path / ".dockerignore").write_text(text, newline="")

    with pytest.raises(CheckNotMade, match="otherwise"):
        BuildContext(tmp_path, tmp_path / "Dockerfile").files()


def test_patterns_with_the_line_ends_of_windows_are_read(tmp_path):
    """As the builder does."""
    (tmp_path / ".dockerignore").write_bytes(b"a\r\nb\r\n")
    for name in "abc":
        (tmp_path / name).touch()

    assert BuildContext(tmp_path, tmp_path / "Dockerfile").files() == (".dockerignore", "c")


def test_patterns_behind_a_link_are_not_read(tmp_path):
    """The builder looks for its target in the context, and may find none."""
    (tmp_path / "patterns").write_text("secret.py\n")
    (tmp_path / ".dockerignore").symlink_to(tmp_path / "patterns")

    with pytest.raises(CheckNotMade, match="link"):
        BuildContext(tmp_path, tmp_path / "Dockerfile").files()


PIECES = st.lists(st.sampled_from(["*", "**", "**/", "/", "a", "b", "?", "[ab]", "[^a]", r"\\a", "."]), max_size=8)


@given(PIECES.map("".join), st.text(alphabet="ab/.\n", max_size=12))
def test_a_pattern_matches_what_one_expression_of_its_parts_does(text, path):
    """They are two ways to say the same; this one takes its time once, and the other is not tried twice."""
    parts = tuple(context_files._part(token) for token in context_files.TOKEN.finditer(text))
    expression = "".join(part.pattern for part in parts)

    assert context_files._Pattern(parts, kept=False).matches(path) == bool(re.fullmatch(expression, path))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("*a" * 12 + "b", "a" * 200), ("**/a" * 6 + "/b", "/".join("a" * 60)), ("**/" * 10 + "b", "/".join("a" * 100))],
)
def test_a_pattern_that_could_be_tried_in_many_ways_is_tried_in_one_pass(tmp_path, pattern, path):
    """An expression would try them for years."""
    (tmp_path / ".dockerignore").write_text(pattern)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()

    assert path in BuildContext(tmp_path, tmp_path / "Dockerfile").files()


def test_more_patterns_than_a_person_writes_are_not_read(tmp_path):
    """Nobody waits for it."""
    (tmp_path / ".dockerignore").write_text("#" * (LIMIT + 1))

    with pytest.raises(CheckNotMade, match="more than"):
        BuildContext(tmp_path, tmp_path / "Dockerfile").files()


def test_what_the_build_takes_can_be_had_alone(tmp_path: Path):
    """What is ignored is not there, what is there has its content, and afterwards nothing is left."""
    for name in ("app/requirements.txt", "examples/requirements.txt", ".dockerignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("examples\n" if name.startswith(".") else name)

    with BuildContext(tmp_path, tmp_path / "Dockerfile").alone() as place:
        there = {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}

    assert there == {".dockerignore": "examples\n", "app/requirements.txt": "app/requirements.txt"}
    assert not place.exists()
    assert (tmp_path / "app/requirements.txt").read_text() == "app/requirements.txt"
