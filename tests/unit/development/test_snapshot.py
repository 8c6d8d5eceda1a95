"""The rules of a snapshot, tested on trees in memory."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

import pytest

from supply_chain.development import snapshot as rules
from supply_chain.development.snapshot import (
    MAX_DECLARATION,
    MAX_DOCKERFILE,
    MAX_FILE,
    MAX_IGNORE,
    MAX_SIZE,
    Entry,
    Kind,
    Mode,
    Node,
    check,
    compute_blob_id,
    compute_content_digest,
    normalize,
    select,
)
from supply_chain.errors import DeclarationInvalid, SourceInvalid
from supply_chain.model.image import digest_of
from tests.support.repositories import APPLICATION


class MemoryTree:
    """A tree of files in memory."""

    name = "/srv/hello"

    def __init__(self, files):
        self.files = files
        self.listed, self.opened = [], []

    def list(self, directory):
        self.listed.append(directory)
        start = f"{directory}/" if directory else ""
        names = {path.removeprefix(start).split("/")[0] for path in self.files if path.startswith(start)}
        return [self.find(f"{start}{name}") for name in sorted(names)]

    def find(self, path):
        if path in self.files:
            return Node(path, Kind.FILE, size=len(self.files[path]))
        return Node(path, Kind.DIRECTORY) if any(each.startswith(f"{path}/") for each in self.files) else None

    def read(self, node):
        self.opened.append(node.path)
        yield self.files[node.path].encode()


def tree(**files):
    return MemoryTree({**APPLICATION, **files})


def ignoring(*out):
    return lambda ignore, paths: {path for path in paths if path in out}


def names(selection):
    return {node.path for node in selection.nodes}


@pytest.mark.parametrize(
    ("path", "most", "error"),
    [
        ("supply-chain.yaml", MAX_DECLARATION, DeclarationInvalid),
        ("Dockerfile", MAX_DOCKERFILE, DeclarationInvalid),
        ("Dockerfile.dockerignore", MAX_IGNORE, SourceInvalid),
        (".dockerignore", MAX_IGNORE, SourceInvalid),
    ],
)
def test_snapshot_limits_size_of_build_instructions(path, most, error):
    """The snapshot enforces the limit, so no later reader needs its own."""
    start = APPLICATION.get(path, "")
    select(tree(**{path: start + "#" * (most - len(start))}), ignoring())

    with pytest.raises(error, match=f"{path} has more than {most // 1024} KiB"):
        select(tree(**{path: start + "#" * (most - len(start) + 1)}), ignoring())


def test_selection_reads_only_files_that_define_the_build():
    """The contents of the context are not read."""
    source = tree(**{".dockerignore": "x", "deep/file": "", "x": "secret"})

    assert names(select(source, ignoring("x"))) == {*APPLICATION, ".dockerignore", "deep/file"}
    assert source.opened == ["supply-chain.yaml", "Dockerfile", ".dockerignore"]


@pytest.mark.parametrize(
    ("ignore", "listed"),
    [
        ("node_modules", {"", "src"}),
        ("node_modules\n!src\n!node_modules", {"", "src"}),
        ("node_modules\n!node_modules.d/keep", {"", "src"}),
        ("node_modules\n!node_modules/keep", {"", "node_modules", "src"}),
        ("node_modules\n!/./src/..//node_modules/keep", {"", "node_modules", "src"}),
        ("node_modules\n!*/keep", {"", "node_modules", "src"}),
        ("node_modules\n!src\r\n! node_modules/keep", {"", "node_modules", "src"}),
        ("node_modules\n!src\rnode_modules/keep", {"", "node_modules", "src"}),
    ],
)
def test_ignored_directory_is_listed_only_if_pattern_reincludes_files(ignore, listed):
    """A large ignored directory costs no time."""
    source = tree(**{".dockerignore": ignore, "node_modules/a": "", "node_modules/keep": "", "src/a": ""})

    found = select(source, ignoring("node_modules", "node_modules/a"))

    assert set(source.listed) == listed
    assert ("node_modules/keep" in names(found)) is ("node_modules" in listed)


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("z" * 255, True),
        ("z" * 256, False),
        ("z" * 256 + "/file", False),
        ("a/" + "ä" * 127, True),
        ("a/" + "ä" * 128, False),
        ("/".join(["z" * 255] * 12), True),
        ("/".join(["z" * 255] * 12 + ["a"]), False),
    ],
    ids=lambda value: f"{len(value)} characters" if isinstance(value, str) else "",
)
def test_snapshot_refuses_name_or_path_over_file_system_limit(path, fits):
    """git stores names of any length, once for all files below them, but each path repeats the name."""
    with contextlib.nullcontext() if fits else pytest.raises(SourceInvalid, match=r"^\w[^\n]{,900}… is too long"):
        assert path in names(select(tree(**{path: ""}), ignoring()))


def test_snapshot_limits_total_size_of_listed_paths(monkeypatch):
    """Ignored paths count too, because they are held in memory for the ignore matcher."""
    source = tree(**{".dockerignore": "many", **{f"many-{n}-{'z' * 200}": "" for n in range(10)}})
    out = ignoring(*(path for path in source.files if path.startswith("many")))

    monkeypatch.setattr(rules, "MAX_LISTED_SIZE", 3000)
    select(source, out)
    monkeypatch.setattr(rules, "MAX_LISTED_SIZE", 2000)

    with pytest.raises(SourceInvalid, match="The paths of the files"):
        select(source, out)


def test_matcher_gets_ignore_file_and_paths_relative_to_context():
    """BuildKit matches paths in the same way."""
    asked = []

    def matcher(ignore, paths):
        asked.append((ignore, list(paths)))
        return ()

    declared = f"{APPLICATION['supply-chain.yaml']}build: {{context: src}}\n"
    select(tree(**{"supply-chain.yaml": declared, "src/.dockerignore": "x\n", "src/a/b": ""}), matcher)

    assert asked == [(b"x\n", [".dockerignore", "a"]), (b"x\n", ["a/b"])]


def test_ignore_file_of_dockerfile_precedes_that_of_context():
    """BuildKit reads it first, even if it is empty."""
    for own in ("x\n", ""):
        asked: list[Any] = []
        source = tree(**{".dockerignore": "y\n", "Dockerfile.dockerignore": own})
        selection = select(source, lambda ignore, paths, asked=asked: asked.append(ignore) or ())
        assert set(asked) <= {own.encode()}
        assert "Dockerfile.dockerignore" in selection.texts and ".dockerignore" not in selection.texts


@pytest.mark.parametrize(
    "node", [Node("a", Kind.SPECIAL), Node("a", Kind.SUBMODULE), Node("a", Kind.FILE, size=MAX_FILE + 1)], ids=str
)
def test_snapshot_refuses_special_file_submodule_and_large_file(node):
    """The error names the file."""
    with pytest.raises(SourceInvalid, match="a "):
        check([node])


def test_snapshot_limits_total_size_of_files():
    """Each file alone may be within its limit."""
    count = MAX_SIZE // MAX_FILE
    check([Node(str(n), Kind.FILE, size=MAX_FILE) for n in range(count)])

    with pytest.raises(SourceInvalid, match="too large"):
        check([Node(str(n), Kind.FILE, size=MAX_FILE) for n in range(count + 1)])


def test_collision_check_calls_checkpoint():
    """There may be many files, each with many parent directories."""

    def checkpoint():
        raise SourceInvalid("enough")

    with pytest.raises(SourceInvalid, match="enough"):
        check([Node("a", Kind.FILE)], checkpoint)


def test_content_digest_covers_path_mode_and_content():
    """The order of the entries does not matter."""
    entry = Entry("a", Mode.FILE, 1, digest_of(b"1"), compute_blob_id(b"1"))
    other = Entry("b", Mode.FILE, 1, digest_of(b"2"), compute_blob_id(b"2"))
    changed = [
        Entry("c", Mode.FILE, 1, digest_of(b"1"), compute_blob_id(b"1")),
        Entry("a", Mode.EXECUTABLE, 1, digest_of(b"1"), compute_blob_id(b"1")),
        Entry("a", Mode.LINK, 1, digest_of(b"1"), compute_blob_id(b"1")),
        Entry("a", Mode.FILE, 1, digest_of(b"3"), compute_blob_id(b"3")),
    ]

    assert compute_content_digest([entry, other]) == compute_content_digest([other, entry])
    assert (
        len({compute_content_digest([each, other]) for each in (entry, *changed)} | {compute_content_digest([entry])})
        == 6
    )


def test_blob_id_equals_git_blob_id():
    """The result is compared with `git hash-object`."""
    output = subprocess.run(["git", "hash-object", "--stdin"], input=b"hello\n", capture_output=True, check=True).stdout

    assert compute_blob_id(b"hello\n") == output.decode().strip()


@pytest.mark.parametrize(
    ("declared", "path"), [(".", ""), ("./", ""), ("src/", "src"), ("./a/./b", "a/b"), ("a//b", "a/b")]
)
def test_normalize_gives_declared_path_in_tree_form(declared, path):
    """Different spellings of a path give the same result."""
    assert normalize(declared) == path
