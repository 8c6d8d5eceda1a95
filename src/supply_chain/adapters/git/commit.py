"""The files of a commit, and the parsers of git's commit and tree objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dulwich.errors import ObjectFormatException
from dulwich.objects import parse_tree as read_tree

from supply_chain.adapters.git.objects import Objects
from supply_chain.development.snapshot import MAX_LISTED, Kind, Mode, Node, make_too_many_files_error
from supply_chain.errors import SourceInvalid

HEADER = re.compile(rb"tree (?P<tree>[0-9a-f]{40})\n(?P<parents>(?:parent [0-9a-f]{40}\n)*)")
COMMITTER = re.compile(rb"^committer [^\n]*> (-?\d{1,19}) [+-]\d{1,5}$", re.MULTILINE)
EMAIL = re.compile(rb"^(?:author|committer) [^\n<>]*<([^\n<>]*)> -?\d{1,19} [+-]\d{1,5}$", re.MULTILINE)
MAX_EMAIL = 320
"""Maximum characters of an e-mail address (RFC 3696)."""
MAX_TREE = 16 * 1024**2
"""Maximum bytes of a tree object: some 300,000 names in one directory. In memory they take up to 20 times as many."""
MAX_COMMIT = 16 * 1024**2
"""Maximum bytes of a commit object. In memory its parents take up to five times as many."""
LATEST = 2**33
"""Latest commit time, in Unix seconds; a later one is replaced by it."""
TREE = 0o40000
TYPES = {0o100000: Kind.FILE, 0o120000: Kind.LINK, TREE: Kind.DIRECTORY, 0o160000: Kind.SUBMODULE}


@dataclass(frozen=True, slots=True)
class Commit:
    """The parts of a commit that are used (gitdatamodel(7))."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    time: int
    committers: tuple[str, ...]
    """E-mail addresses of the author and the committer, in lower case; none if one of them cannot be read."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """Entry of a tree object."""

    mode: int
    oid: str

    @property
    def kind(self) -> Kind:
        """Kind of the file, from the entry's mode."""
        return TYPES.get(self.mode & 0o170000, Kind.SPECIAL)

    @property
    def is_tree(self) -> bool:
        """Whether the entry is a directory."""
        return self.kind is Kind.DIRECTORY


@dataclass
class CommittedTree:
    """Implementation of `development.snapshot.Tree` on git objects; `root` is the tree of the application's directory.

    Parsed trees stay in memory. Raises `SourceInvalid` if they have more names than a snapshot may list.
    """

    name: str
    objects: Objects
    root: str
    _trees: dict[str, dict[str, TreeEntry]] = field(default_factory=dict, init=False)
    _names: int = field(default=0, init=False)

    def list(self, directory: str) -> Iterator[Node]:
        """Yield the nodes directly in a directory; none if there is no such directory."""
        at = self._tree(directory)
        above = f"{directory}/" if directory else ""
        for name, entry in self._read_tree(at).items() if at else ():
            yield _node(f"{above}{name}", entry)

    def find(self, path: str) -> Node | None:
        """Return the node at a path, without following a link; None if there is none."""
        above, _, name = path.rpartition("/")
        at = self._tree(above)
        entry = self._read_tree(at).get(name) if at else None
        return _node(path, entry) if entry else None

    def read(self, node: Node) -> Iterator[bytes]:
        """Yield the content of a file, or the target of a link."""
        kind, content = self.objects.read(node.blob or "")
        if kind != "blob":
            raise SourceInvalid(f"{node.path} is a {kind} in git, not a file.\nCheck the repository with `git fsck`.")
        yield content

    def _tree(self, path: str) -> str | None:
        at = self.root
        for part in path.split("/") if path else ():
            entry = self._read_tree(at).get(part)
            if entry is None or not entry.is_tree:
                return None
            at = entry.oid
        return at

    def _read_tree(self, oid: str) -> dict[str, TreeEntry]:
        if oid not in self._trees:
            self._trees[oid] = parse_tree(oid, self.objects)
            self._names += len(self._trees[oid])
            if self._names > MAX_LISTED:
                raise make_too_many_files_error(self.name)
        return self._trees[oid]


def parse_tree(oid: str, objects: Objects) -> dict[str, TreeEntry]:
    """Return the entries of a tree object by name.

    Raises `SourceInvalid` if a name occurs twice or is not the name of a single file.
    """
    entries = [
        (name.decode("utf-8", "surrogateescape"), TreeEntry(mode, bytes(raw).decode()))
        for name, mode, raw in _entries(oid, objects)
    ]
    by_name = dict(entries)
    if len(by_name) < len(entries) or any(name in ("", ".", "..") or "/" in name for name in by_name):
        raise _tree_error(oid)
    return by_name


def find_subtree(oid: str, name: str, objects: Objects) -> str | None:
    """Return the id of a directory in a tree object; None if there is none.

    In a long history, this is much faster than `parse_tree`.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    return next(
        (bytes(raw).decode() for each, mode, raw in _entries(oid, objects) if each == encoded and mode == TREE), None
    )


def _entries(oid: str, objects: Objects) -> Sequence[tuple[bytes, int, bytes]]:
    kind, content = objects.read(oid)
    if kind != "tree":
        raise _tree_error(oid)
    if len(content) > MAX_TREE:
        raise SourceInvalid(
            f"The git object {oid} is a directory of more than {MAX_TREE // 1024**2} MiB of names.\n"
            "Spread its files over several directories."
        )
    try:
        return list(read_tree(content, 20))
    except (ObjectFormatException, ValueError, OverflowError) as error:
        raise _tree_error(oid) from error


def _tree_error(oid: str) -> SourceInvalid:
    return SourceInvalid(f"The git object {oid} is not a tree of files.\nCheck the repository with `git fsck`.")


def parse_commit(oid: str, content: bytes) -> Commit:
    """Return the commit that a commit object's content describes.

    Raises `SourceInvalid` if it is not one, or has more than `MAX_COMMIT` bytes.
    """
    if len(content) > MAX_COMMIT:
        raise SourceInvalid(
            f"The git object {oid} is a commit of more than {MAX_COMMIT // 1024**2} MiB.\n"
            "Write a shorter message, with fewer parents, or build another commit."
        )
    headers = content.partition(b"\n\n")[0]
    header, committer = HEADER.match(content), COMMITTER.search(headers)
    if not header or not committer:
        raise SourceInvalid(f"The git object {oid} is not a commit.\nCheck the repository with `git fsck`.")
    time = min(max(int(committer[1]), 0), LATEST)
    parents = tuple(header["parents"].decode().split()[1::2])
    return Commit(oid, header["tree"].decode(), parents, time, _read_committers(headers))


def _read_committers(headers: bytes) -> tuple[str, ...]:
    addresses = [each.decode("utf-8", "replace").strip().casefold() for each in EMAIL.findall(headers)]
    valid = len(addresses) == 2 and all(each.isprintable() and 0 < len(each) <= MAX_EMAIL for each in addresses)
    return tuple(sorted(set(addresses))) if valid else ()


def _node(path: str, entry: TreeEntry) -> Node:
    if entry.kind is Kind.LINK:
        return Node(path, Kind.LINK, Mode.LINK, blob=entry.oid)
    mode = Mode.EXECUTABLE if entry.mode & 0o100 else Mode.FILE
    return Node(path, entry.kind, mode, blob=entry.oid)
