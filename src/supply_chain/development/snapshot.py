"""The snapshot: what a run builds, copied once; and the rules by which a file belongs to it.

`docs/explanation/source.md` lists the rules. They are pure functions on what a tree lists, so that the files of a
working copy and those of a commit are judged alike.
"""

from __future__ import annotations

import hashlib
import posixpath
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from supply_chain.errors import DeclarationInvalid, SourceInvalid, SupplyChainError
from supply_chain.model import documents
from supply_chain.model.image import Digest, Source, digest_of
from supply_chain.model.manifest import FILE, Base, Service, parse_manifest

MAX_FILES = 100_000
"""Files and links that a snapshot may hold."""
MAX_LISTED = 1_000_000
"""Names that are looked at, with those that the ignore file leaves out."""
MAX_LISTED_SIZE = 128 * 1024**2
"""Bytes of the paths of all these together; they are held in memory."""
MAX_DEPTH = 100
"""Directories below each other."""
MAX_FILE = 2 * 1024**3
"""Bytes of the largest file."""
MAX_SIZE = 8 * 1024**3
"""Bytes of all files together."""
MAX_DECLARATION = documents.LIMIT
"""Bytes of the declaration."""
MAX_DOCKERFILE = 256 * 1024
"""Bytes of the Dockerfile. BuildKit's reader converts as many within its memory."""
MAX_IGNORE = 64 * 1024
"""Bytes of the ignore file."""
MAX_NAME = 255
"""Bytes of a name in a directory (Linux' NAME_MAX). git knows no such limit."""
MAX_PATH = 4095
"""Bytes of a path, and of what a link leads to (Linux' PATH_MAX)."""
MAX_LINKS = 40
"""Links that are followed one after the other (Linux' limit)."""

GIT = ".git"
IGNORE = ".dockerignore"
CONTROL = frozenset(("Cc", "Cs", "Zl", "Zp"))
DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that let a name be read in another order than it is written."""


Checkpoint = Callable[[], object]
"""Called at each step of what takes long. It raises where the snapshot has to end."""


def _go_on() -> None:
    """The checkpoint of what has no limit."""


class Kind(StrEnum):
    """What a name in a directory stands for."""

    FILE = "file"
    LINK = "symbolic link"
    DIRECTORY = "directory"
    SUBMODULE = "submodule"
    SPECIAL = "special file"


class Mode(StrEnum):
    """The modes that git records."""

    FILE = "100644"
    EXECUTABLE = "100755"
    LINK = "120000"

    @property
    def permissions(self) -> int:
        """As chmod(2) takes them."""
        return 0o755 if self is Mode.EXECUTABLE else 0o644


@dataclass(frozen=True, slots=True)
class Node:
    """A name in a tree, before it is read. `blob` is its git object, where the tree is a commit's."""

    path: str
    kind: Kind
    mode: Mode = Mode.FILE
    size: int = 0
    blob: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a link of a snapshot. A link's content is the path that it leads to."""

    path: str
    mode: Mode
    size: int
    digest: Digest
    blob: str
    """The id that git gives this content."""


class Tree(Protocol):
    """The application's directory, as it lies on a disk or in a commit. Paths are relative to it.

    Each method raises `SourceInvalid` where the tree cannot be read, or no longer holds what it listed.
    """

    @property
    def name(self) -> str:
        """What a person calls the directory."""

    def list(self, directory: str) -> Iterable[Node]:
        """What lies directly in a directory; "" is the tree's own."""

    def find(self, path: str) -> Node | None:
        """What a path stands for, without following a link; None where there is nothing."""

    def read(self, node: Node) -> Iterator[bytes]:
        """A file's content in pieces, or a link's target."""


class IgnoreMatcher(Protocol):
    """BuildKit's reading of an ignore file."""

    def __call__(self, ignore: bytes, paths: Sequence[str]) -> Collection[str]:
        """The paths, relative to the build context, that the ignore file's content leaves out. `SourceInvalid`."""


@dataclass(frozen=True)
class Selection:
    """What of a tree belongs to a snapshot, before it is read."""

    manifest: Service | Base
    context: str
    """The build context, relative to the tree; "" where it is the tree itself."""
    texts: Mapping[str, tuple[Node, bytes]]
    """Path → the declaration, the Dockerfile and the ignore file, if there is one."""
    dockerfile: str
    nodes: tuple[Node, ...]
    """The files and links of the build context that the ignore file leaves."""

    @property
    def contents(self) -> dict[str, tuple[Mode, str | None]]:
        """Path → mode and git object, of everything."""
        nodes = (*(node for node, _ in self.texts.values()), *self.nodes)
        return {node.path: (node.mode, node.blob) for node in nodes}


@dataclass(frozen=True)
class Snapshot:
    """An immutable, private copy of what a run builds. It is gone when the run is over.

    In `directory` lie `supply-chain.yaml`; a directory with the files of the build context that the ignore file
    leaves, and no others; `dockerfile/` with the Dockerfile; and `ignore/` with the ignore file, if there is one. A
    builder is given an empty ignore file, so that nothing is left out again.
    """

    directory: Path
    manifest: Service | Base
    source: Source
    entries: Mapping[str, Entry]
    """Path, relative to the application's directory → what is there."""
    written: Mapping[Path, Entry]
    """Path of the copy → what was copied to it; no other file or link is in `directory`."""

    context: Path
    """The directory that is the build context. Its name is of its content.

    BuildKit remembers by that name what it was sent, and is sent only what differs by size or time: two contexts of
    one name and other contents would be taken for one.
    """
    origin: Path
    """The directory that was copied, by the kernel's own account while it was open.

    What a path stands for may change at any time; whose source it is, is decided by this.
    """

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile, outside of the context."""
        return self.directory / "dockerfile" / Path(self.manifest.build.dockerfile).name

    @property
    def declaration(self) -> Path:
        """The declaration."""
        return self.directory / FILE

    @property
    def beside_context(self) -> dict[str, Path]:
        """The declaration and the Dockerfile by their paths from the build context, which need not hold them."""
        context = normalize(self.manifest.build.context) or "."
        named = {FILE: self.declaration, normalize(self.manifest.build.dockerfile): self.dockerfile}
        return {posixpath.relpath(path, context): place for path, place in named.items()}

    def digest_of(self, declared: str) -> Digest:
        """The digest of a file that the declaration names, relative to the application's directory."""
        return self.entries[normalize(declared)].digest


def content_digest(entries: Iterable[Entry]) -> Digest:
    """One digest of all entries: of each its mode, digest and path, sorted by path. Times have no part in it."""
    lines = sorted((entry.path.encode(), f"{entry.mode} {entry.digest} ".encode()) for entry in entries)
    return digest_of(b"cscm snapshot 1\0" + b"".join(b"%s%s\0" % (rest, path) for path, rest in lines))


def blob_id(content: bytes) -> str:
    """The id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def select(tree: Tree, ignores: IgnoreMatcher, checkpoint: Checkpoint = _go_on) -> Selection:
    """Choose what of a tree belongs to a snapshot. No file of the build context is read.

    Raises `DeclarationInvalid` where the declaration is missing or wrong, and `SourceInvalid` for a name that cannot
    be told and for a link on the way to what says how to build. `check` and `check_links` judge the rest.
    """
    declaration = _declaration(tree)
    manifest = parse_manifest(declaration[1], f"{tree.name}/{FILE}")
    context, path = normalize(manifest.build.context), normalize(manifest.build.dockerfile)
    if path == FILE:
        raise DeclarationInvalid(
            f"{tree.name}/{FILE} names itself as the Dockerfile.\nName another (build.dockerfile)."
        )
    dockerfile = _text(tree, path, MAX_DOCKERFILE)
    if dockerfile is None:
        raise DeclarationInvalid(
            f"{tree.name}/{path} does not exist.\nName the right Dockerfile in {FILE} (build.dockerfile)."
        )
    texts = {FILE: declaration, path: dockerfile}
    ignore = _ignore_file(tree, context, path)
    if ignore:
        texts[ignore[0].path] = ignore
    _require_directory(tree, context)
    nodes = tuple(_walk(tree, context, ignore[1] if ignore else b"", ignores, checkpoint))
    return Selection(manifest, context, texts, path, nodes)


def read_declaration(tree: Tree) -> Service | Base:
    """Read what a tree declares, and nothing else of it; raises as `select` does."""
    return parse_manifest(_declaration(tree)[1], f"{tree.name}/{FILE}")


def _declaration(tree: Tree) -> tuple[Node, bytes]:
    found = _text(tree, FILE, MAX_DECLARATION)
    if found is None:
        raise DeclarationInvalid(f"{tree.name}/{FILE} does not exist.\nCreate it, or name the right directory.")
    return found


def normalize(declared: str) -> str:
    """A path of the declaration as trees write it: "" for the directory itself."""
    return "/".join(part for part in declared.split("/") if part not in ("", "."))


def check(nodes: Sequence[Node], checkpoint: Checkpoint = _go_on) -> None:
    """Refuse what no snapshot holds: submodules, special files, names that collide, and too much of anything."""
    if len(nodes) > MAX_FILES:
        raise SourceInvalid(f"The build context has more than {MAX_FILES} files.\n{_leave_out('what is not built')}")
    size = 0
    for node in nodes:
        if node.kind is Kind.SUBMODULE:
            raise SourceInvalid(
                f"{node.path} is a git submodule, whose files are in no commit of this repository.\n"
                f"Copy the files into the repository, or leave {node.path} out in the ignore file."
            )
        if node.kind is Kind.SPECIAL:
            raise SourceInvalid(
                f"{node.path} is neither a file nor a directory nor a link (a pipe, a socket or a device).\n"
                f"{_leave_out(node.path)}"
            )
        size += node.size
        if node.size > MAX_FILE or size > MAX_SIZE:
            raise SourceInvalid(
                f"The build context is too large at {node.path}: a file may have {MAX_FILE // 1024**3} GiB, "
                f"all of them {MAX_SIZE // 1024**3} GiB.\n{_leave_out('what is not built')}"
            )
    check_collisions((node.path for node in nodes), checkpoint)


def check_name(name: str) -> None:
    """Refuse a name that is no UTF-8, or that holds characters which are not printed as they are."""
    if has_control(name):
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise SourceInvalid(f"{ascii(shown)[1:-1]}: the name is no UTF-8, or holds control characters.\nRename it.")


def has_control(text: str) -> bool:
    """Tell whether a text holds characters that are not printed as they are, or is no UTF-8 (as surrogates)."""
    return not text.isprintable() and any(
        unicodedata.category(character) in CONTROL or character in DIRECTION for character in text
    )


def check_collisions(paths: Iterable[str], checkpoint: Checkpoint = _go_on) -> None:
    """Refuse names that a file system takes for one: they differ by case or by Unicode normalization alone.

    Unicode 15, section 3.13, "canonical caseless match".
    """
    seen: dict[str, str] = {}
    for path in paths:
        checkpoint()
        end = len(path)
        while end > 0:
            part = path[:end]
            key = _caseless(part)
            other = seen.setdefault(key, part)
            if other != part:
                raise SourceInvalid(
                    f"{ascii(other)[1:-1]} and {ascii(part)[1:-1]} are one name where case or Unicode normalization "
                    "does not count.\nRename one of them."
                )
            end = path.rfind("/", 0, end)


def _caseless(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def check_links(links: Mapping[str, str], checkpoint: Checkpoint = _go_on) -> None:
    """Refuse a link that does not stay within the build context. `links`: path → target, relative to the context.

    A target need not exist: it may be made by the build.
    """
    top = _Place()
    for path, target in links.items():
        checkpoint()
        if target.startswith("/"):
            raise SourceInvalid(
                f"{path} leads to {target!r}, a path of whatever machine reads it.\nMake it a relative link, or a file."
            )
        if len(target.encode("utf-8", "surrogateescape")) > MAX_PATH or not target:
            raise SourceInvalid(f"{path} leads nowhere.\nRemove it, or make it a file.")
        check_name(target)
        top.add(path, target)
    for path in links:
        _resolve(path, top, checkpoint)


@dataclass(slots=True)
class _Place:
    """A directory with links in or below it, or a link, which has a target."""

    target: str | None = None
    below: dict[str, _Place] = field(default_factory=dict)

    def add(self, path: str, target: str) -> None:
        at = self
        for part in path.split("/"):
            at = at.below.setdefault(part, _Place())
        at.target = target


NOWHERE = _Place()
"""A directory without links below it."""


def _resolve(path: str, top: _Place, checkpoint: Checkpoint) -> None:
    """Follow a link as the kernel does, with the build context as the root that `..` must not leave.

    Each part of a target is looked up in the directory that was reached: the work grows with the parts' number alone.
    """
    at = [top]
    left = list(reversed(path.split("/")))
    for _ in range(len(left) - 1):
        at.append(at[-1].below[left.pop()])
    followed = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if len(at) == 1:
                raise SourceInvalid(f"{path} leads out of the build context.\nMake it a file, or leave it out.")
            at.pop()
            continue
        place = at[-1].below.get(part, NOWHERE)
        if place.target is None:
            at.append(place)
            continue
        checkpoint()
        followed += 1
        if followed > MAX_LINKS:
            raise SourceInvalid(f"{path} leads to itself.\nRemove it, or let it lead to a file.")
        left += reversed(place.target.split("/"))


def _walk(tree: Tree, context: str, ignore: bytes, ignores: IgnoreMatcher, checkpoint: Checkpoint) -> Iterator[Node]:
    """The files and links below `context` that are not ignored, a level of directories at a time.

    What lies in an ignored directory is looked at only where a pattern could bring it back (`!`). What is ignored
    is listed and never read.
    """
    start = len(context) + 1 if context else 0
    level, listed, size = [context], 0, 0
    for _ in range(MAX_DEPTH):
        found: list[Node] = []
        for directory in level:
            for node in tree.list(directory):
                checkpoint()
                listed += 1
                size += _path_size(node.path)
                if listed > MAX_LISTED:
                    raise too_many_files(tree.name)
                if size > MAX_LISTED_SIZE:
                    raise SourceInvalid(
                        f"The paths of the files in {tree.name} have more than {MAX_LISTED_SIZE // 1024**2} MiB.\n"
                        "Build from a smaller context, or give its directories shorter names."
                    )
                if not _is_git(node.path):
                    check_name(node.path)
                    found.append(node)
        out = ignores(ignore, [node.path[start:] for node in found]) if ignore and found else ()
        yield from (node for node in found if node.kind is not Kind.DIRECTORY and node.path[start:] not in out)
        level = [
            node.path
            for node in found
            if node.kind is Kind.DIRECTORY and (b"!" in ignore or node.path[start:] not in out)
        ]
        if not level:
            return
    raise SourceInvalid(f"{level[0][:200]}… lies more than {MAX_DEPTH} directories deep.\n{_leave_out('it')}")


def too_many_files(name: str) -> SourceInvalid:
    return SourceInvalid(f"{name} has more than {MAX_LISTED} files.\nBuild from a smaller context.")


def _path_size(path: str) -> int:
    """The bytes of a path; raise `SourceInvalid` where it, or its name, has more than any file system holds."""
    content = path.encode("utf-8", "surrogateescape")
    if len(content) > MAX_PATH or len(content) - content.rfind(b"/") - 1 > MAX_NAME:
        raise SourceInvalid(
            f"{ascii(path[:200])[1:-1]}… is too long: a name may have {MAX_NAME} bytes, a path {MAX_PATH}.\n"
            "Rename it, or move it up."
        )
    return len(content)


def _is_git(path: str) -> bool:
    """git's own files, which are never part of what is built, at no level (as in BuildKit's own git contexts)."""
    return path[path.rfind("/") + 1 :].lower() == GIT


def _ignore_file(tree: Tree, context: str, dockerfile: str) -> tuple[Node, bytes] | None:
    """The Dockerfile's own, or else the context's, as BuildKit looks for them."""
    paths = (f"{dockerfile}{IGNORE}", f"{context}/{IGNORE}" if context else IGNORE)
    return next((found for path in paths if (found := _text(tree, path, MAX_IGNORE, SourceInvalid))), None)


def _text(
    tree: Tree, path: str, most: int, error: type[SupplyChainError] = DeclarationInvalid
) -> tuple[Node, bytes] | None:
    """A file that says how to build, with its content; None where there is none, `error` beyond `most` bytes.

    `SourceInvalid` where a link is on the way: a reader that follows it would read another file than one that does
    not.
    """
    node = _find(tree, path)
    if node is None:
        return None
    if node.kind is not Kind.FILE:
        raise DeclarationInvalid(f"{tree.name}/{path} is not a file, but a {node.kind}.\nPut a file there.")
    content = b"" if node.size > most else b"".join(tree.read(node))
    if max(node.size, len(content)) > most:
        raise error(f"{path} has more than {most // 1024} KiB.\nA file of this kind is a page; shorten it.")
    return node, content


def _require_directory(tree: Tree, path: str) -> None:
    node = _find(tree, path) if path else None
    if path and (node is None or node.kind is not Kind.DIRECTORY):
        what = "does not exist" if node is None else f"is a {node.kind}"
        raise DeclarationInvalid(
            f"{tree.name}/{path} {what}.\nName a directory of the application in {FILE} (build.context)."
        )


def _find(tree: Tree, path: str) -> Node | None:
    """What a path stands for, provided that no part of it is a link."""
    node = None
    for end in [*(at for at, character in enumerate(path) if character == "/"), len(path)]:
        node = tree.find(path[:end])
        if node is None:
            return None
        if node.kind is Kind.LINK:
            raise SourceInvalid(
                f"{path[:end]} is a link in the path of {path}, which may lead elsewhere for the builder than for a "
                "check.\nPut the file or directory itself there."
            )
        if node.kind is not Kind.DIRECTORY and end < len(path):
            return None
    return node


def _leave_out(what: str) -> str:
    return f"Remove it, or name {what} in the ignore file."
