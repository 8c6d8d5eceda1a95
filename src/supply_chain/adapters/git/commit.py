"""A commit's files, and the forms of git's commits and trees."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dulwich.errors import ObjectFormatException
from dulwich.objects import parse_tree as read_tree

from supply_chain.adapters.git.objects import Objects
from supply_chain.development.snapshot import MAX_LISTED, Kind, Mode, Node, too_many_files
from supply_chain.errors import SourceInvalid

HEADER = re.compile(rb"tree (?P<tree>[0-9a-f]{40})\n(?P<parents>(?:parent [0-9a-f]{40}\n)*)")
COMMITTER = re.compile(rb"^committer [^\n]*> (-?\d{1,19}) [+-]\d{1,5}$", re.MULTILINE)
MAX_TREE = 16 * 1024**2
"""Bytes of the largest tree object: some 300,000 names in one directory. In memory they take up to 20 times as many."""
LATEST = 2**33
"""Unix seconds; a commit of a later time counts as one of this."""
TREE = 0o40000
TYPES = {0o100000: Kind.FILE, 0o120000: Kind.LINK, TREE: Kind.DIRECTORY, 0o160000: Kind.SUBMODULE}


@dataclass(frozen=True, slots=True)
class Commit:
    """What is read of a commit: gitdatamodel(7)."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    time: int


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A name in a tree object."""

    mode: int
    oid: str

    @property
    def kind(self) -> Kind:
        return TYPES.get(self.mode & 0o170000, Kind.SPECIAL)

    @property
    def is_tree(self) -> bool:
        return self.kind is Kind.DIRECTORY


@dataclass
class CommittedTree:
    """A `development.snapshot.Tree` of git's objects; `root` is the tree of the application's directory.

    The trees that were read stay in memory. `SourceInvalid` where they have more names than a snapshot may list.
    """

    name: str
    objects: Objects
    root: str
    _trees: dict[str, dict[str, TreeEntry]] = field(default_factory=dict, init=False)
    _names: int = field(default=0, init=False)

    def list(self, directory: str) -> Iterator[Node]:
        at = self._tree(directory)
        above = f"{directory}/" if directory else ""
        for name, entry in self._parsed(at).items() if at else ():
            yield _node(f"{above}{name}", entry)

    def find(self, path: str) -> Node | None:
        above, _, name = path.rpartition("/")
        at = self._tree(above)
        entry = self._parsed(at).get(name) if at else None
        return _node(path, entry) if entry else None

    def read(self, node: Node) -> Iterator[bytes]:
        kind, content = self.objects.read(node.blob or "")
        if kind != "blob":
            raise SourceInvalid(f"{node.path} is a {kind} in git, and no file.\nLook at it with `git fsck`.")
        yield content

    def _tree(self, path: str) -> str | None:
        at = self.root
        for part in path.split("/") if path else ():
            entry = self._parsed(at).get(part)
            if entry is None or not entry.is_tree:
                return None
            at = entry.oid
        return at

    def _parsed(self, oid: str) -> dict[str, TreeEntry]:
        if oid not in self._trees:
            self._trees[oid] = parse_tree(oid, self.objects)
            self._names += len(self._trees[oid])
            if self._names > MAX_LISTED:
                raise too_many_files(self.name)
        return self._trees[oid]


def parse_tree(oid: str, objects: Objects) -> dict[str, TreeEntry]:
    """The names in a tree object. `SourceInvalid` where two are alike, or one is none of a single file."""
    entries = [
        (name.decode("utf-8", "surrogateescape"), TreeEntry(mode, bytes(raw).decode()))
        for name, mode, raw in _entries(oid, objects)
    ]
    found = dict(entries)
    if len(found) < len(entries) or any(name in ("", ".", "..") or "/" in name for name in found):
        raise _no_tree(oid)
    return found


def find_subtree(oid: str, name: str, objects: Objects) -> str | None:
    """A directory in a tree object; None where there is none. Much faster than all names, in a long history."""
    wanted = name.encode("utf-8", "surrogateescape")
    return next(
        (bytes(raw).decode() for each, mode, raw in _entries(oid, objects) if each == wanted and mode == TREE), None
    )


def _entries(oid: str, objects: Objects) -> Sequence[tuple[bytes, int, bytes]]:
    kind, content = objects.read(oid)
    if kind != "tree":
        raise _no_tree(oid)
    if len(content) > MAX_TREE:
        raise SourceInvalid(
            f"The git object {oid} is a directory of more than {MAX_TREE // 1024**2} MiB of names.\n"
            "Spread its files over several directories."
        )
    try:
        return list(read_tree(content, 20))
    except (ObjectFormatException, ValueError, OverflowError) as error:
        raise _no_tree(oid) from error


def _no_tree(oid: str) -> SourceInvalid:
    return SourceInvalid(f"The git object {oid} is no tree of files.\nLook at it with `git fsck`.")


def parse_commit(oid: str, content: bytes) -> Commit:
    """A commit object's content."""
    header, committer = HEADER.match(content), COMMITTER.search(content.partition(b"\n\n")[0])
    if not header or not committer:
        raise SourceInvalid(f"The git object {oid} is no commit.\nLook at it with `git fsck`.")
    time = min(max(int(committer[1]), 0), LATEST)
    return Commit(oid, header["tree"].decode(), tuple(header["parents"].decode().split()[1::2]), time)


def _node(path: str, entry: TreeEntry) -> Node:
    if entry.kind is Kind.LINK:
        return Node(path, Kind.LINK, Mode.LINK, blob=entry.oid)
    mode = Mode.EXECUTABLE if entry.mode & 0o100 else Mode.FILE
    return Node(path, entry.kind, mode, blob=entry.oid)
