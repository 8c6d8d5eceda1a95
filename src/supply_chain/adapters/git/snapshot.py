"""Creation of an application's snapshot, from its working copy or from a commit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from supply_chain.adapters.files.free_space import require_space
from supply_chain.adapters.files.openat import open_directory_by_path, read_path
from supply_chain.adapters.git.commit import CommittedTree
from supply_chain.adapters.git.repository import Repository, open_repository
from supply_chain.adapters.git.snapshot_budget import Budget, Phase
from supply_chain.adapters.git.working_copy import WorkingCopy
from supply_chain.development.snapshot import (
    MAX_FILE,
    MAX_SIZE,
    Entry,
    IgnoreMatcher,
    Kind,
    Mode,
    Node,
    Selection,
    Snapshot,
    Tree,
    check,
    compute_blob_id,
    compute_content_digest,
    read_declaration,
    read_texts,
    select,
)
from supply_chain.development.snapshot_paths import MAX_PATH, check_links, check_name
from supply_chain.errors import DeclarationInvalid, SourceInvalid
from supply_chain.model.declaration import FILE, Base, Service
from supply_chain.model.image import Digest, Source, digest_of
from supply_chain.scratch import make_scratch_directory

OLDEST = 315532800
"""1980-01-01, in Unix seconds: the time of files without a commit. Some archive formats have no earlier time."""


@contextlib.contextmanager
def take_snapshot(
    directory: Path, revision: str | None, ignores: IgnoreMatcher, budget: Budget | None = None
) -> Iterator[Snapshot]:
    """Yield a private copy of the build's input, and remove it afterwards.

    The copy is of the current files in `directory`, or of the commit `revision`. Raises `DeclarationInvalid` if there
    is no application, `SourceInvalid` if a rule is broken, the git repository cannot be read, or the budget is
    exceeded, and `DiskFull` if the copy would use the reserve of free space.
    """
    with make_scratch_directory("snapshot") as place:
        yield _take_snapshot(directory, revision, _CachedMatcher(ignores), place, budget or Budget())


def read_declaration_at(directory: Path, revision: str | None) -> Service | Base:
    """Read the declaration that a snapshot of the same source would have, by the same rules, without a copy."""
    with contextlib.ExitStack() as stack:
        root = _open(directory, stack)
        repository, commit = _repository(directory, root, revision, Budget(), stack)
        if revision is not None and repository and commit:
            return read_declaration(_commit_tree(repository, commit))
        return read_declaration(WorkingCopy(str(directory), root))


def require_texts(directory: Path) -> None:
    """Raise the error of `take_snapshot` if the declaration or the Dockerfile cannot be read; it needs no tool."""
    with contextlib.ExitStack() as stack:
        read_texts(WorkingCopy(str(directory), _open(directory, stack)))


def verify_snapshot(snapshot: Snapshot) -> None:
    """Raise `SourceInvalid` if a snapshot is no longer what was copied; its digests are signed after this check."""
    written = {path: (entry.mode, entry.digest) for path, entry in snapshot.written.items()}
    current = {path: _state(path) for path in snapshot.directory.rglob("*") if path.is_symlink() or not path.is_dir()}
    changed = sorted(path for path in written.keys() | current.keys() if written.get(path) != current.get(path))
    if changed:
        raise SourceInvalid(
            f"{changed[0]} changed in the run's own copy, so that what was checked is not known.\n"
            "Find out what writes to that directory, and run it again."
        )


def _state(path: Path) -> tuple[Mode | None, Digest | None]:
    """Return the mode and the digest of a file or a link.

    The mode is None if the permissions are not those that a snapshot sets; both are None for other kinds of files.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Mode.LINK, digest_of(os.fsencode(os.readlink(str(path))))  # noqa: PTH115 - not normalized
    if not stat.S_ISREG(mode):
        return None, None
    fitting = next((each for each in (Mode.FILE, Mode.EXECUTABLE) if each.permissions == stat.S_IMODE(mode)), None)
    with path.open("rb") as file:
        return fitting, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _take_snapshot(
    directory: Path, revision: str | None, ignores: IgnoreMatcher, place: Path, budget: Budget
) -> Snapshot:
    with contextlib.ExitStack() as stack:
        root = _open(directory, stack)
        origin = read_path(root)
        repository, commit = _repository(directory, root, revision, budget, stack)
        working = WorkingCopy(str(directory), root)
        if repository is None or commit is None:
            unnamed = Source(path=".", repository=_checked_name(origin), revision="none", dirty=True)
            return _copy(working, ignores, place, unnamed, origin, budget)
        source = repository.source(commit, dirty=False)
        if revision is not None:
            return _copy(_commit_tree(repository, commit), ignores, place, source, origin, budget)
        snapshot = _copy(working, ignores, place, source, origin, budget)
        dirty = _is_dirty(snapshot, working, repository, commit, ignores)
        return replace(snapshot, source=snapshot.source.model_copy(update={"dirty": dirty}))


def _repository(
    directory: Path, root: int, revision: str | None, budget: Budget, stack: contextlib.ExitStack
) -> tuple[Repository | None, str | None]:
    """Return the git repository around a directory, and the commit of the revision or the one that is checked out."""
    repository = stack.enter_context(open_repository(root, budget))
    commit = repository.commit(revision) if repository else None
    if revision is not None and (repository is None or commit is None):
        raise SourceInvalid(f"{directory} has no revision {revision!r}.\nName a commit that its git repository holds.")
    return repository, commit


def _open(directory: Path, stack: contextlib.ExitStack) -> int:
    """Open the application's directory, without following a link.

    A link in the path would let whoever may change it choose what is built.
    """
    try:
        return stack.enter_context(open_directory_by_path(directory))
    except (OSError, ValueError) as error:
        real = Path(os.path.realpath(directory)) if "\0" not in str(directory) else directory
        if real != directory.absolute() and real.is_dir():
            raise SourceInvalid(f"A link is in the path of {directory}.\nName the directory itself: {real}") from error
        raise DeclarationInvalid(f"{directory} is not a directory.\nName the directory that holds {FILE}.") from None


def _commit_tree(repository: Repository, commit: str) -> CommittedTree:
    root = repository.tree(commit)
    if root is None:
        raise SourceInvalid(
            f"{repository.inside} is not in revision {commit[:12]}.\nName a commit that holds the application."
        )
    return CommittedTree(f"{repository.inside or repository.name}@{commit[:12]}", repository.objects, root)


def _is_dirty(snapshot: Snapshot, working: Tree, repository: Repository, commit: str, ignores: IgnoreMatcher) -> bool:
    """Return whether a snapshot differs from what the same rules select in the commit's tree.

    The comparison uses git's ids of the copied files. It does not use git's index or any setting that makes git
    overlook changes.
    """
    budget = repository.objects.budget
    budget.phase = Phase.LIST
    if repository.tree(commit) is None:
        return True
    try:
        selection = select(_commit_tree(repository, commit), ignores, budget.checkpoint)
    except (DeclarationInvalid, SourceInvalid):  # the working copy could be read, so it differs
        budget.checkpoint()
        return True
    check([node for node in selection.nodes if node.kind is Kind.SUBMODULE and working.find(node.path)])
    return selection.contents != {path: (entry.mode, entry.blob) for path, entry in snapshot.entries.items()}


def _copy(tree: Tree, ignores: IgnoreMatcher, place: Path, source: Source, origin: Path, budget: Budget) -> Snapshot:
    budget.phase = Phase.LIST
    selection = select(tree, ignores, budget.checkpoint)
    check(selection.nodes, budget.checkpoint)
    start = len(selection.context) + 1 if selection.context else 0
    budget.phase = Phase.LINKS
    links = {n.path[start:]: _target(tree, n, budget) for n in selection.nodes if n.kind is Kind.LINK}
    check_links({path: os.fsdecode(target) for path, target in links.items()}, budget.checkpoint)
    budget.phase = Phase.COPY
    writer = _Writer(place, source.committed or OLDEST, budget)
    entries = writer.write_texts(selection)
    for node in selection.nodes:
        relative = node.path[start:]
        if node.kind is Kind.LINK:
            entry = writer.link(f"context/{relative}", node, links[relative])
        elif node.path in selection.texts:  # build the bytes that the selection was made from
            entry = writer.file(f"context/{relative}", node, [selection.texts[node.path][1]])
        else:
            entry = writer.file(f"context/{relative}", node, tree.read(node))
        entries[node.path] = entry
    writer.finish()
    content = compute_content_digest(entries.values())
    copied = place / "context"
    context = copied.rename(place / f"context-{content.removeprefix('sha256:')}")
    written = {
        context / path.relative_to(copied) if path.is_relative_to(copied) else path: entry
        for path, entry in writer.written.items()
    }
    source = source.model_copy(update={"snapshot": content})
    return Snapshot(
        place, selection.declaration, source, MappingProxyType(entries), MappingProxyType(written), context, origin
    )


def _target(tree: Tree, link: Node, budget: Budget) -> bytes:
    budget.checkpoint()
    target = b"".join(tree.read(link))
    if len(target) > MAX_PATH:  # in git, a link may be as large as any file
        raise SourceInvalid(f"{link.path} leads nowhere.\nRemove it, or make it a file.")
    return target


@dataclass
class _Writer:
    """Writes a snapshot's files, with git's modes and one modification time."""

    place: Path
    time: int
    budget: Budget
    size: int = 0
    directories: dict[Path, None] = field(default_factory=dict)
    written: dict[Path, Entry] = field(default_factory=dict)

    def write_texts(self, selection: Selection) -> dict[str, Entry]:
        """Write the declaration, the Dockerfile and the ignore file."""
        dockerfile = f"dockerfile/{Path(selection.dockerfile).name}"
        (self.place / "context").mkdir()
        self.directories[self.place / "context"] = None
        entries = {}
        for path, (node, content) in selection.texts.items():
            name = {FILE: FILE, selection.dockerfile: dockerfile}.get(path, f"ignore/{Path(path).name}")
            entries[path] = self.file(name, node, [content])
        return entries

    def file(self, name: str, node: Node, pieces: Sequence[bytes] | Iterator[bytes]) -> Entry:
        """Write a file in pieces."""
        self.budget.checkpoint()
        path = self._path(name)
        digest, blob, size = hashlib.sha256(), _blob(node.size), 0
        with path.open("xb") as file:
            for piece in pieces:
                self.budget.checkpoint()
                size += len(piece)
                if size > MAX_FILE or self.size + size > MAX_SIZE:
                    raise SourceInvalid(
                        f"{node.path} makes the build context too large: a file may have {MAX_FILE // 1024**3} GiB, "
                        f"all of them {MAX_SIZE // 1024**3} GiB.\nRemove what is not built, or name it in the ignore "
                        "file."
                    )
                require_space(self.place, "The build context is not copied")
                file.write(piece)
                digest.update(piece)
                blob.update(piece)
            os.fchmod(file.fileno(), node.mode.permissions)
        os.utime(path, (self.time, self.time))
        self.size += size
        entry = Entry(node.path, node.mode, size, f"sha256:{digest.hexdigest()}", node.blob or blob.hexdigest())
        self.written[path] = entry
        return entry

    def link(self, name: str, node: Node, target: bytes) -> Entry:
        """Write a symbolic link."""
        self.budget.checkpoint()
        path = self._path(name)
        path.symlink_to(os.fsdecode(target))
        os.utime(path, (self.time, self.time), follow_symlinks=False)
        entry = Entry(node.path, Mode.LINK, len(target), digest_of(target), node.blob or compute_blob_id(target))
        self.written[path] = entry
        return entry

    def finish(self) -> None:
        """Set the mode and time of the directories, after the last file is written."""
        for path in self.directories:
            path.chmod(0o755)
            os.utime(path, (self.time, self.time))

    def _path(self, name: str) -> Path:
        path = self.place / name
        for above in reversed(path.relative_to(self.place).parents[:-1]):
            directory = self.place / above
            if directory not in self.directories:
                directory.mkdir(exist_ok=True)
                self.directories[directory] = None
        return path


def _blob(size: int) -> hashlib._Hash:
    """Return a hash object that computes git's id of a file of `size` bytes."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


@dataclass(frozen=True)
class _CachedMatcher:
    """Cache around a matcher, because a commit has mostly the same paths as the working copy."""

    ignores: IgnoreMatcher
    answers: dict[bytes, dict[str, bool]] = field(default_factory=dict)

    def __call__(self, ignore: bytes, paths: Sequence[str]) -> Collection[str]:
        answers = self.answers.setdefault(ignore, {})
        unknown = [path for path in paths if path not in answers]
        if unknown:
            out = frozenset(self.ignores(ignore, unknown))
            answers.update((path, path in out) for path in unknown)
        return frozenset(path for path in paths if answers[path])


def _checked_name(place: Path) -> str:
    check_name(place.name)
    return place.name
