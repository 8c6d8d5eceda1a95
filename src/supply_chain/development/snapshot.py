"""The snapshot of what a run builds, copied once, and the rules that decide which files belong to it.

`docs/explanation/source.md` lists the rules. They are pure functions on what a tree lists, so that the files of a
working copy and those of a commit are judged alike.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from supply_chain.development.ignore_file import can_reinclude
from supply_chain.development.snapshot_paths import (
    Checkpoint,
    check_collisions,
    check_name,
    measure_path,
    skip_checkpoint,
)
from supply_chain.errors import DeclarationInvalid, SourceInvalid, SupplyChainError
from supply_chain.model import documents
from supply_chain.model.declaration import FILE, Base, Service, parse_declaration
from supply_chain.model.image import Digest, Source, digest_of

MAX_FILES = 100_000
"""Largest number of files and links in a snapshot."""
MAX_LISTED = 1_000_000
"""Largest number of names that are listed, including those that the ignore file excludes."""
MAX_LISTED_SIZE = 128 * 1024**2
"""Largest number of bytes of all these paths together; they are held in memory."""
MAX_DEPTH = 100
"""Largest number of directories below each other."""
MAX_FILE = 2 * 1024**3
"""Largest size of a file in bytes."""
MAX_SIZE = 8 * 1024**3
"""Largest size of all files together in bytes."""
MAX_DECLARATION = documents.LIMIT
"""Largest size of the declaration in bytes."""
MAX_DOCKERFILE = 256 * 1024
"""Largest size of the Dockerfile in bytes. BuildKit's reader can convert this much within its memory."""
MAX_IGNORE = 64 * 1024
"""Largest size of the ignore file in bytes."""

GIT = ".git"
IGNORE = ".dockerignore"


class Kind(StrEnum):
    """What a name in a directory refers to."""

    FILE = "file"
    LINK = "symbolic link"
    DIRECTORY = "directory"
    SUBMODULE = "submodule"
    SPECIAL = "special file"


class Mode(StrEnum):
    """The modes that Git records."""

    FILE = "100644"
    EXECUTABLE = "100755"
    LINK = "120000"

    @property
    def permissions(self) -> int:
        """Permissions as chmod(2) takes them."""
        return 0o755 if self is Mode.EXECUTABLE else 0o644


@dataclass(frozen=True, slots=True)
class Node:
    """A name in a tree, before its content is read. `blob` is its Git object, if the tree is that of a commit."""

    path: str
    kind: Kind
    mode: Mode = Mode.FILE
    size: int = 0
    blob: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a link of a snapshot. The content of a link is its target."""

    path: str
    mode: Mode
    size: int
    digest: Digest
    blob: str
    """The id that Git gives to this content."""


class Tree(Protocol):
    """The application's directory, on a disk or in a commit. Paths are relative to it.

    Each method raises `SourceInvalid` if the tree cannot be read, or no longer contains what it listed.
    """

    @property
    def name(self) -> str:
        """The directory's name for people."""

    def list(self, directory: str) -> Iterable[Node]:
        """Return what is directly in a directory; "" is the tree's own."""

    def find(self, path: str) -> Node | None:
        """Return what is at a path, without following a link; None if there is nothing."""

    def read(self, node: Node) -> Iterator[bytes]:
        """Yield the content of a file in pieces, or the target of a link."""


class IgnoreMatcher(Protocol):
    """BuildKit's interpretation of an ignore file."""

    def __call__(self, ignore: bytes, paths: Sequence[str]) -> Collection[str]:
        """Return those of `paths` that an ignore file with the content `ignore` excludes.

        Paths are relative to the build context. Raises `SourceInvalid`.
        """


@dataclass(frozen=True)
class Selection:
    """The part of a tree that belongs to a snapshot, before files are read."""

    declaration: Service | Base
    context: str
    """The build context, relative to the tree; "" if it is the tree itself."""
    texts: Mapping[str, tuple[Node, bytes]]
    """Path → the declaration, the Dockerfile, and the ignore file, if there is one."""
    dockerfile: str
    nodes: tuple[Node, ...]
    """The files and links of the build context that the ignore file does not exclude."""

    @property
    def contents(self) -> dict[str, tuple[Mode, str | None]]:
        """Path of every file and link → its mode and Git object."""
        nodes = (*(node for node, _ in self.texts.values()), *self.nodes)
        return {node.path: (node.mode, node.blob) for node in nodes}


@dataclass(frozen=True)
class Snapshot:
    """An immutable, private copy of what a run builds, which is removed at the end of the run.

    `directory` contains `supply-chain.yaml`; a directory with exactly those files of the build context that the ignore
    file does not exclude; `dockerfile/` with the Dockerfile; and `ignore/` with the ignore file, if there is one. The
    builder gets an empty ignore file, so that nothing is excluded again.
    """

    directory: Path
    declaration: Service | Base
    source: Source
    entries: Mapping[str, Entry]
    """Path, relative to the application's directory → the entry there."""
    written: Mapping[Path, Entry]
    """Path of a copy → the entry that was copied; `directory` contains no other file or link."""

    context: Path
    """The directory of the build context. Its name depends on its content.

    BuildKit identifies by this name what it received before, and then receives only what differs by size or time. It
    would take two contexts with the same name and different contents for one.
    """
    origin: Path
    """The directory that was copied, as the kernel named it while it was open.

    A path can lead to something else at any time. This value decides whose source it is.
    """

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile, which is outside of the context."""
        return self.directory / "dockerfile" / Path(self.declaration.build.dockerfile).name

    @property
    def declaration_file(self) -> Path:
        """The file of the declaration, which is outside of the context."""
        return self.directory / FILE

    @property
    def outside_context(self) -> dict[str, Path]:
        """The declaration and the Dockerfile by their paths from the build context, which may not contain them."""
        context = normalize(self.declaration.build.context) or "."
        named = {FILE: self.declaration_file, normalize(self.declaration.build.dockerfile): self.dockerfile}
        return {posixpath.relpath(path, context): place for path, place in named.items()}

    def digest_of(self, declared: str) -> Digest:
        """Return the digest of a file that the declaration names, relative to the application's directory."""
        return self.entries[normalize(declared)].digest


def compute_content_digest(entries: Iterable[Entry]) -> Digest:
    """Return one digest of all entries.

    It covers the mode, digest and path of each, sorted by path, and no times.
    """
    lines = sorted((entry.path.encode(), f"{entry.mode} {entry.digest} ".encode()) for entry in entries)
    return digest_of(b"cscm snapshot 1\0" + b"".join(b"%s%s\0" % (rest, path) for path, rest in lines))


def compute_blob_id(content: bytes) -> str:
    """Return the id that Git gives to a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def select(tree: Tree, ignores: IgnoreMatcher, checkpoint: Checkpoint = skip_checkpoint) -> Selection:
    """Select what belongs to a snapshot, without reading a file of the build context.

    Raises `DeclarationInvalid` if the declaration is missing or wrong. Raises `SourceInvalid` for a name that cannot be
    printed, and for a link in the path of the context, the declaration, the Dockerfile or the ignore file. `check` and
    `check_links` judge the rest.
    """
    declaration, path, texts = read_texts(tree)
    context = normalize(declaration.build.context)
    ignore = _ignore_file(tree, context, path)
    if ignore:
        texts[ignore[0].path] = ignore
    _require_directory(tree, context)
    nodes = tuple(_walk(tree, context, ignore[1] if ignore else b"", ignores, checkpoint))
    return Selection(declaration, context, texts, path, nodes)


def read_texts(tree: Tree) -> tuple[Service | Base, str, dict[str, tuple[Node, bytes]]]:
    """Return the declaration, the Dockerfile's path, and the text of both by path; raise the same errors as `select`.

    It needs no tool.
    """
    declaration_file = _read_declaration_file(tree)
    declaration = parse_declaration(declaration_file[1], f"{tree.name}/{FILE}")
    path = normalize(declaration.build.dockerfile)
    if path == FILE:
        raise DeclarationInvalid(
            f"{tree.name}/{FILE} names itself as the Dockerfile.\nName another (build.dockerfile)."
        )
    dockerfile = _text(tree, path, MAX_DOCKERFILE)
    if dockerfile is None:
        raise DeclarationInvalid(
            f"{tree.name}/{path} does not exist.\nWrite one, or name the right Dockerfile in {FILE} (build.dockerfile)."
        )
    return declaration, path, {FILE: declaration_file, path: dockerfile}


def read_declaration(tree: Tree) -> Service | Base:
    """Read only the declaration of a tree; raise the same errors as `select`."""
    return parse_declaration(_read_declaration_file(tree)[1], f"{tree.name}/{FILE}")


def _read_declaration_file(tree: Tree) -> tuple[Node, bytes]:
    declaration_file = _text(tree, FILE, MAX_DECLARATION)
    if declaration_file is None:
        raise DeclarationInvalid(f"{tree.name}/{FILE} does not exist.\nCreate it, or name the right directory.")
    return declaration_file


def normalize(declared: str) -> str:
    """Return a path of the declaration as trees write it: "" for the directory itself."""
    return "/".join(part for part in declared.split("/") if part not in ("", "."))


def check(nodes: Sequence[Node], checkpoint: Checkpoint = skip_checkpoint) -> None:
    """Refuse submodules, special files, names that collide, and too many or too large files (`SourceInvalid`)."""
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


def _walk(tree: Tree, context: str, ignore: bytes, ignores: IgnoreMatcher, checkpoint: Checkpoint) -> Iterator[Node]:
    """Yield the files and links below `context` that are not ignored, one level of directories at a time.

    An ignored directory is searched only if a pattern can include its content again (`!`). Ignored files are listed and
    never read.
    """
    start = len(context) + 1 if context else 0
    level, listed, size = [context], 0, 0
    for _ in range(MAX_DEPTH):
        nodes: list[Node] = []
        for directory in level:
            checkpoint()
            for node in tree.list(directory):
                checkpoint()
                listed += 1
                size += measure_path(node.path)
                if listed > MAX_LISTED:
                    raise make_too_many_files_error(tree.name)
                if size > MAX_LISTED_SIZE:
                    raise SourceInvalid(
                        f"The paths of the files in {tree.name} have more than {MAX_LISTED_SIZE // 1024**2} MiB.\n"
                        "Build from a smaller context, or give its directories shorter names."
                    )
                if not _is_git(node.path):
                    check_name(node.path)
                    nodes.append(node)
        out = ignores(ignore, [node.path[start:] for node in nodes]) if ignore and nodes else ()
        yield from (node for node in nodes if node.kind is not Kind.DIRECTORY and node.path[start:] not in out)
        level = [
            node.path
            for node in nodes
            if node.kind is Kind.DIRECTORY
            and (node.path[start:] not in out or can_reinclude(ignore, node.path[start:]))
        ]
        if not level:
            return
    raise SourceInvalid(f"{level[0][:200]}… lies more than {MAX_DEPTH} directories deep.\n{_leave_out('it')}")


def make_too_many_files_error(name: str) -> SourceInvalid:
    """Return the error about a directory with too many files."""
    return SourceInvalid(f"{name} has more than {MAX_LISTED} files.\nBuild from a smaller context.")


def _is_git(path: str) -> bool:
    """Return whether this is `.git`, which is never built, at any level (as in BuildKit's own Git contexts)."""
    return path[path.rfind("/") + 1 :].lower() == GIT


def _ignore_file(tree: Tree, context: str, dockerfile: str) -> tuple[Node, bytes] | None:
    """Return the Dockerfile's own ignore file, or else the context's, in the order of BuildKit."""
    paths = (f"{dockerfile}{IGNORE}", f"{context}/{IGNORE}" if context else IGNORE)
    return next((file for path in paths if (file := _text(tree, path, MAX_IGNORE, SourceInvalid))), None)


def _text(
    tree: Tree, path: str, most: int, error: type[SupplyChainError] = DeclarationInvalid
) -> tuple[Node, bytes] | None:
    """Return a file that configures the build, with its content; None if there is none.

    Raises `error` if it has more than `most` bytes. Raises `SourceInvalid` for a link in the path: a reader that
    follows the link would read another file than one that does not.
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
    """Return what is at a path; raise `SourceInvalid` if a part of the path is a link."""
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
