"""The file system of an image, with layers applied as the engine does and paths resolved as the kernel does.

OCI image 1.1 ("Image Layer Filesystem Changeset") does not define what a layer means that writes through a symbolic
link, or that hides files of its own. containerd unpacks each layer into its own directory, and overlayfs merges the
directories. Other engines apply each layer to the files below it. This module does what containerd does on overlayfs.
It records in `conflicts` each place where engines produce different files or refuse the image.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_ENTRIES = 300_000
"""Maximum files, directories and links in all layers of an image together; directories that no layer lists count too.
"""
MOST_CONFLICTS = 100
"""Maximum conflicts that are recorded; one is enough to refuse an image."""
LONGEST_PATH = 4096
"""Maximum bytes of a path (Linux, PATH_MAX); no engine creates a longer one."""
DEEPEST = 256
"""Maximum directories above a file; installed software stays far below."""
MOST_LINKS = 40
"""Maximum symbolic links that Linux follows in one path (path_resolution(7))."""
MOST_ENGINE_LINKS = 255
"""Maximum symbolic links that containerd follows in one path."""
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
MOUNTS = ("proc", "sys", "dev")
"""Directories over which a runtime mounts the kernel's, also in an image without them."""
PROCESS_LINKS = re.compile(r"/proc/[1-9][0-9]*(?:/task/[1-9][0-9]*)?/(root|cwd)")
"""Links of processes and threads that lead back into the image (proc(5))."""
KERNEL_LINKS = {"/proc/self": "1", "/proc/thread-self": "1/task/1", "/dev/fd": "/proc/self/fd"}
"""Links of the kernel and of the runtime that lead on to `PROCESS_LINKS`."""
CAPABILITY = "SCHILY.xattr.security.capability"


class Kind(StrEnum):
    """Type of a file."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "symbolic link"
    DEVICE = "device"
    PIPE = "pipe"


KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.LINK,
    tarfile.CHRTYPE: Kind.DEVICE,
    tarfile.BLKTYPE: Kind.DEVICE,
    tarfile.FIFOTYPE: Kind.PIPE,
}


@dataclass(slots=True)
class Node(Generic[T]):
    """An inode; hard links are several names of one node."""

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int = 0
    target: str = ""
    """Target of a symbolic link."""
    capabilities: bool = False
    content: T | None = None
    """The result of the reader for a regular file."""
    children: dict[str, Node[T]] = field(default_factory=dict)
    hides: bool = False
    """In a layer: a whiteout of this name in the layers below."""
    opaque: bool = False
    """In a layer: hides everything in this directory in the layers below."""
    implicit: bool = False
    """In a layer: a directory that the layer does not list, but that contains something of the layer."""


class LayerInvalid(ValueError):
    """A layer that no engine can apply, or that exceeds a limit."""


def split_path(path: str) -> list[str]:
    """Return the names in a path."""
    return [part for part in path.split("/") if part]


def escape_path(path: str) -> str:
    """Return a path as printable text; bytes that are not UTF-8 and unprintable characters are escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


class Filesystem(Generic[T]):
    """The files of an image, as the root of a container has them; `lay` applies one layer after the other."""

    def __init__(self) -> None:
        self.root: Node[T] = Node(Kind.DIRECTORY)
        self.conflicts: list[str] = []
        self.working_directory = "/"
        """Where the processes of a container start."""
        self._entries = 0
        self._unpacked: list[Node[T]] = []
        """The layers, each unpacked separately."""

    def lay(self, members: Iterator[tarfile.TarInfo], read: Callable[[tarfile.TarInfo], T | None]) -> None:
        """Apply a layer; `read` gets the entry of each regular file and returns the content to store in its node.

        Raises `LayerInvalid` if there are too many entries, or if an entry is one that no engine unpacks.
        """
        layer = _Layer[T](self, first=not self._unpacked)
        for member in members:
            self.count()
            layer.add(member, read)
        layer.finish()
        self._unpacked.append(layer.root)
        _merge(self.root, layer.root)

    def lower(self, layers: int) -> Filesystem[T]:
        """Return the files of the first `layers` alone; files are shared, and directories are not."""
        below = Filesystem[T]()
        below.working_directory = self.working_directory
        for layer in self._unpacked[:layers]:
            _merge(below.root, layer)
        return below

    def count(self) -> None:
        """Count a file of a layer; raise `LayerInvalid` if there are too many."""
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise LayerInvalid(f"it has more than {MOST_ENTRIES} files")

    def record_conflict(self, what: str) -> None:
        """Record a place about which engines differ."""
        if len(self.conflicts) < MOST_CONFLICTS and what not in self.conflicts:
            self.conflicts.append(what)

    def takes(self, way: list[str]) -> bool:
        """Return whether containerd can take a directory's attributes from the layers below.

        containerd does so for a directory that a layer does not list.
        """
        for layer in reversed(self._unpacked):
            target = resolve_engine_path(layer, "/".join(way))
            if target is None:
                return False
            if find_node(layer, target) is not None:
                return True
        return True

    def resolve(self, path: str, *, follow: bool = True, mounted: bool = False) -> tuple[str, Node[T]] | None:
        """Return the absolute path without links and the file there; None if there is no such file.

        Resolves a path as Linux does for a process with this root (path_resolution(7)). Without `follow`, a link as the
        last name is not followed. With `mounted`, the path is that of a running container, where it may lead through
        `MOUNTS`; scanners read an image without these.
        """
        names, links = list(reversed(split_path(path))), 0
        at: list[tuple[str, Node[T]]] = [("", self.root)]
        while names:
            name = names.pop()
            above = at[-1][1]
            if above.kind is not Kind.DIRECTORY:
                return None
            if name == ".":
                continue
            if name == "..":
                del at[max(1, len(at) - 1) :]
                continue
            node = above.children.get(name)
            if mounted and (at[1][0] if len(at) > 1 else name) in MOUNTS and not (len(at) == 1 and node is not None):
                node = self._find_mounted("/".join((*(each for each, _ in at), name)))
            if node is None:
                return None
            if node.kind is Kind.LINK and (names or follow):
                links += 1
                if links > MOST_LINKS or not node.target:
                    return None
                if node.target.startswith("/"):
                    del at[1:]
                names += reversed(split_path(node.target))
                continue
            at.append((name, node))
        return "/" + "/".join(name for name, _ in at[1:]), at[-1][1]

    def _find_mounted(self, path: str) -> Node[T]:
        """Return what a process finds below `MOUNTS`: a link back into the image, or what may be a directory.

        Which files are there, only the kernel knows; the image's own are hidden.
        """
        if path in KERNEL_LINKS:
            return Node(Kind.LINK, target=KERNEL_LINKS[path])
        if link := PROCESS_LINKS.fullmatch(path):
            return Node(Kind.LINK, target="/" if link[1] == "root" else self.working_directory)
        return Node(Kind.DIRECTORY)

    def walk(self) -> Iterator[tuple[str, Node[T]]]:
        """Yield every file with its path, a directory before its content; links are not followed."""
        waiting = [("", self.root)]
        while waiting:
            above, directory = waiting.pop()
            for name, node in sorted(directory.children.items()):
                path = f"{above}/{name}"
                yield path, node
                if node.kind is Kind.DIRECTORY:
                    waiting.append((path, node))


def _merge(lower: Node[T], layer: Node[T]) -> None:
    """Merge a layer's directory into the one below, as overlayfs does."""
    waiting = [(lower, layer)]
    while waiting:
        below, above = waiting.pop()
        for name, node in above.children.items():
            existing = below.children.get(name)
            if node.hides:
                below.children.pop(name, None)
            elif node.kind is not Kind.DIRECTORY:
                below.children[name] = node
            else:
                if existing is None or existing.kind is not Kind.DIRECTORY:
                    existing = below.children[name] = Node(Kind.DIRECTORY)
                elif node.opaque:
                    existing.children = {}
                if not node.implicit:
                    existing.mode, existing.uid, existing.gid = node.mode, node.uid, node.gid
                waiting.append((existing, node))


class _Layer(Generic[T]):
    """One layer, unpacked into its own directory."""

    def __init__(self, below: Filesystem[T], *, first: bool) -> None:
        self.root: Node[T] = Node(Kind.DIRECTORY)
        self._below = below
        self._first = first
        self._directories: set[str] = set()

    def add(self, member: tarfile.TarInfo, read: Callable[[tarfile.TarInfo], T | None]) -> None:
        """Unpack one entry."""
        if "\0" in member.name or "\0" in member.linkname or len(member.name) > LONGEST_PATH:
            raise LayerInvalid("it has a name that no file can have")
        if member.name.count("/") > DEEPEST or member.linkname.count("/") > DEEPEST:
            raise LayerInvalid(f"it has a path of more than {DEEPEST} directories")
        content = read(member) if KINDS.get(member.type) is Kind.FILE else None
        directory, name = posixpath.split(posixpath.normpath(member.name))
        if name in ("", ".", ".."):
            return
        way = resolve_engine_path(self.root, directory)
        if way is None:
            self._below.record_conflict(f"{escape_path(member.name)} lies below a link that leads nowhere")
            return
        if any(each.startswith(WHITEOUT) for each in split_path(directory)):
            self._below.record_conflict(f"{escape_path(member.name)} lies below a whiteout, where scanners do not look")
        self._check_below(directory, member)
        parent = self._directory(way)
        if parent is None:
            self._below.record_conflict(
                f"{escape_path(member.name)} lies below something that is not a directory, in its layer or in one below"
            )
        elif name == OPAQUE:
            self._opaque(parent, way, member)
        elif name.startswith(WHITEOUT):
            self._whiteout(parent, name.removeprefix(WHITEOUT), member)
        else:
            self._put(parent, name, member, content)

    def finish(self) -> None:
        """Check the directories again, as containerd does when it sets their times."""
        for path in self._directories:
            way = resolve_engine_path(self.root, path)
            if way is None or find_node(self.root, way) is None:
                self._below.record_conflict(f"{escape_path(path)} is a directory that its own layer replaces")

    def _put(self, parent: Node[T], name: str, member: tarfile.TarInfo, content: T | None) -> None:
        existing = parent.children.get(name)
        if existing is not None and existing.hides:
            self._below.record_conflict(f"{escape_path(member.name)} has a whiteout in its own layer")
        if member.islnk():
            target = self._link_target(member.linkname)
            if target is None:
                self._below.record_conflict(
                    f"{escape_path(member.name)} is a hard link to {escape_path(member.linkname)}, which its layer "
                    "does not hold"
                )
                target = self._below_target(member.linkname)
            if target is None or target.kind is Kind.DIRECTORY or target is existing:
                self._below.record_conflict(f"{escape_path(member.name)} is a hard link to no file")
                return
            parent.children[name] = node = target
        elif member.isdir() and existing is not None and existing.kind is Kind.DIRECTORY:
            node, node.implicit = existing, False
        else:
            kind = KINDS.get(member.type)
            if kind is None:
                raise LayerInvalid(f"it has an entry of the type {member.type!r}")
            node = parent.children[name] = Node(kind, size=member.size, target=member.linkname, content=content)
            if member.ischr() and (member.devmajor, member.devminor) == (0, 0):
                node.hides = True
                self._below.record_conflict(
                    f"{escape_path(member.name)} is a device that overlayfs takes for a whiteout"
                )
        if member.isdir():
            self._directories.add(posixpath.normpath(member.name))
        node.mode, node.uid, node.gid = member.mode & 0o7777, member.uid, member.gid
        node.capabilities = CAPABILITY in member.pax_headers or (member.islnk() and node.capabilities)

    def _opaque(self, parent: Node[T], way: list[str], member: tarfile.TarInfo) -> None:
        self._check_whiteout(member)
        parent.opaque = True
        if not way and not self._first:
            self._below.record_conflict(
                f"{escape_path(member.name)} hides everything below, which overlayfs does not do"
            )

    def _whiteout(self, parent: Node[T], name: str, member: tarfile.TarInfo) -> None:
        existing = parent.children.get(name)
        if name in ("", ".", ".."):
            raise LayerInvalid(f"it has a whiteout of {name!r}")
        self._check_whiteout(member)
        if name.startswith(WHITEOUT):
            self._below.record_conflict(f"{escape_path(member.name)} hides what has the name of a whiteout")
        if existing is not None and not existing.hides:
            self._below.record_conflict(f"{escape_path(member.name)} hides what its own layer holds")
        elif not self._first:
            parent.children[name] = Node(Kind.DEVICE, hides=True)

    def _check_whiteout(self, member: tarfile.TarInfo) -> None:
        """Record a conflict if a whiteout is not an empty file, as the specification requires."""
        if KINDS.get(member.type) is not Kind.FILE or member.size:
            self._below.record_conflict(
                f"{escape_path(member.name)} has the name of a whiteout and is not an empty file"
            )

    def _check_below(self, directory: str, member: tarfile.TarInfo) -> None:
        """Record a conflict if the path leads through a link.

        The link may be in this layer, or in a layer below if this layer does not replace it.
        """
        own: Node[T] | None = self.root
        below: Node[T] | None = self._below.root
        for name in split_path(directory):
            own = own.children.get(name) if own and own.kind is Kind.DIRECTORY else None
            below = below.children.get(name) if below and below.kind is Kind.DIRECTORY else None
            if own is not None and not own.implicit:
                below = below if below and below.kind is Kind.DIRECTORY else None
            through = own if own is not None and own.kind is Kind.LINK else below
            if through is not None and through.kind is Kind.LINK:
                self._below.record_conflict(
                    f"{escape_path(member.name)} is written through the link {escape_path(name)}"
                )
                return

    def _directory(self, way: list[str]) -> Node[T] | None:
        """Return the directory at a path, and create it if it is missing; None if something else is there."""
        node = self.root
        for depth, name in enumerate(way, start=1):
            if name not in node.children:
                if not self._below.takes(way[:depth]):
                    return None
                self._below.count()
                node.children[name] = Node(Kind.DIRECTORY, implicit=True)
            node = node.children[name]
            if node.kind is not Kind.DIRECTORY:
                return None
        return node

    def _link_target(self, path: str) -> Node[T] | None:
        directory, name = posixpath.split(path)
        way = resolve_engine_path(self.root, directory)
        node = find_node(self.root, [*way, name]) if way is not None and name else None
        return None if node is None or node.hides else node

    def _below_target(self, path: str) -> Node[T] | None:
        target = self._below.resolve(posixpath.normpath(f"/{path}"), follow=False)
        return target[1] if target else None


def find_node(root: Node[T], way: list[str]) -> Node[T] | None:
    """Return the node at a path in one layer; links are not followed."""
    node = root
    for name in way:
        if node.kind is not Kind.DIRECTORY or name not in node.children:
            return None
        node = node.children[name]
    return node


def resolve_engine_path(root: Node[T], path: str) -> list[str] | None:
    """Return the path in one layer as containerd resolves it: links followed, `..` removed by name.

    Return None if there are too many links, or if something other than a directory is in the path.
    """
    links = 0
    while True:
        before, way = links, list[str]()
        node: Node[T] | None = root
        for name in split_path(posixpath.normpath(f"/{path}")):
            if node is not None and node.kind is not Kind.DIRECTORY:
                return None
            child = node.children.get(name) if node else None
            if child is not None and child.kind is Kind.LINK:
                links += 1
                if links > MOST_ENGINE_LINKS:
                    return None
                way = split_path(posixpath.normpath(posixpath.join("/", *way, child.target)))
                node = find_node(root, way)
            else:
                way.append(name)
                node = child
        if links == before:
            return way
        path = "/".join(way)
