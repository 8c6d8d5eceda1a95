"""The git repository around an application: its commits, and the one that the files belong to. No program is run."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from dulwich.config import ConfigFile

from supply_chain.adapters.files.openat import (
    DIRECTORY,
    open_directory,
    open_directory_by_path,
    open_file,
    read_file,
    read_path,
    translate_errors,
)
from supply_chain.adapters.git.commit import Commit, find_subtree, parse_commit
from supply_chain.adapters.git.objects import Objects
from supply_chain.adapters.git.snapshot_budget import Budget
from supply_chain.development.snapshot_paths import check_name, has_control
from supply_chain.errors import SourceInvalid
from supply_chain.model.image import Source

MAX_HISTORY = 250_000
"""Maximum commits that are searched for the last one that changed the application."""
MAX_CONFIG = 1024**2
MAX_REFS = 64 * 1024**2
"""Maximum bytes of packed-refs."""
MAX_SHALLOW = 4 * 1024**2
"""Maximum bytes of the file `shallow`: 100,000 commits."""
MAX_REMOTE = 2048
"""Maximum characters of a remote's address. It becomes an argument of commands, which may have 128 KiB (execve(2))."""
MAX_STEPS = 1000
"""Maximum number in a revision's suffix, such as 3 in HEAD~3."""
MAX_TAGS = 10
"""Maximum depth of tags that point to tags."""
REMEMBERED = 10_000
"""Maximum cached lookups of a part of the application's path in a directory."""
BRANCHES = "refs/heads/"
OID = re.compile(r"[0-9a-f]{40}")
PACKED = re.compile(rb"\n([0-9a-f]{40})")
"""Line of packed-refs, up to the reference's name."""
ABBREVIATED = re.compile(r"[0-9a-f]{4,40}")
REVISION = re.compile(r"(?P<name>[^~^:\\\s]+?)(?P<suffix>(?:~\d*|\^\d*|\^\{commit\})*)")
SCHEME = re.compile(r"(?:[\w+.-]+::)?[A-Za-z][A-Za-z0-9+.-]*://")
HOST = re.compile(r"(?:\[[0-9A-Za-z:.%]+\]|localhost|[\w-]+\.[\w.-]+)(?::\d{0,5})?|[\w.-]*")
"""Host of a URL, empty in file:///. With a port, a name without a dot is no match: it could be a user's name and
password."""
SCP = re.compile(r"(?:\[[0-9A-Za-z:.%]+\]|[\w.-]+):.*")
"""The form HOST:PATH."""
PORT = re.compile(r"[\w-]*:\d{0,5}")
"""A port after a host, or the beginning of a password after a user's name."""
QUERY = re.compile(r"[?#].*", re.DOTALL)
"""Query and fragment of a URL (RFC 3986, sections 3.4 and 3.5)."""
STEP = re.compile(r"([~^])(\d*)")
FORMATS = {b"objectformat": b"sha1", b"refstorage": b"files"}
"""Supported extensions (git-config(1), "extensions.*") that decide how objects and references are stored."""


@dataclass(frozen=True)
class Repository:
    """A repository that is open for reading.

    `git` is its directory, `common` the directory that all its work trees share.
    """

    name: str
    inside: str
    """Path of the application's directory below the root of the work tree; "" for the root."""
    git: int
    common: int
    objects: Objects

    def commit(self, revision: str | None = None) -> str | None:
        """Return the id of the commit with this name, or of the one that is checked out; None if there is none.

        Raises `SourceInvalid`.
        """
        if revision is None:
            return self._resolve_reference("HEAD")
        match = REVISION.fullmatch(revision)
        oid = self._resolve_name(match["name"]) if match else None
        steps = STEP.findall(match["suffix"].replace("^{commit}", "")) if match else []
        for kind, number in steps:
            count = int((number or "1")[:6])
            if oid is None or count > MAX_STEPS:
                return None
            oid = self._parent(oid, count) if kind == "^" else self._ancestor(oid, count)
        return oid

    def source(self, commit: str, *, dirty: bool) -> Source:
        """Return the description of where a commit's code comes from."""
        last = self.find_last_change(commit)
        return Source(
            path=self.inside or ".",
            repository=self.remote,
            revision=commit,
            branch=self._find_branch(commit),
            dirty=dirty,
            committed=last.time if last else 0,
            committers=self._find_committers(last) if last else (),
        )

    def _find_branch(self, commit: str) -> str:
        """Return the branch that is checked out if it leads to this commit; empty if it does not, or none is."""
        content = (read_file(self.git, "HEAD", 4096) or b"").decode("utf-8", "replace")
        name = content.removeprefix("ref:").strip()
        leads = content != name and name.startswith(BRANCHES) and _is_reference(name)
        return name.removeprefix(BRANCHES) if leads and self._resolve_reference(name) == commit else ""

    def _find_committers(self, last: Commit) -> tuple[str, ...]:
        """Return who made the last change; nobody if the history ends there, because it may be of an earlier commit."""
        tree = self._application_tree(last)
        cut = last.oid in self._shallow_commits or any(
            self._application_tree(self._read_commit(each)) == tree for each in last.parents
        )
        return () if cut else last.committers

    @property
    def remote(self) -> str:
        """Address of the remote `origin` without credentials; the repository's name if there is no remote."""
        address = _without_credentials(self._remote)
        if not address:
            check_name(self.name)
        return address or self.name

    def tree(self, commit: str) -> str | None:
        """Return the tree of the application's directory in a commit; None if the commit does not contain it."""
        return self._application_tree(self._read_commit(commit))

    def find_last_change(self, commit: str) -> Commit | None:
        """Return the commit that last changed the application's directory; None if no commit contains it.

        Finds the commit that `git log -1 COMMIT -- DIRECTORY` finds: it follows the parents with the same directory.
        """
        cuts, at = self._shallow_commits, self._read_commit(commit)
        mine = self._application_tree(at)
        if mine is None:
            return None
        for _ in range(MAX_HISTORY):
            parents = () if at.oid in cuts else at.parents
            same = next(
                (each for each in map(self._read_commit, parents) if self._application_tree(each) == mine), None
            )
            if same is None:
                break
            at = same
        return at

    def _read_commit(self, oid: str) -> Commit:
        kind, content = self.objects.read(oid)
        if kind != "commit":
            raise SourceInvalid(f"{oid} is a {kind}, not a commit.\nCheck the repository with `git fsck`.")
        return parse_commit(oid, content)

    def _application_tree(self, commit: Commit) -> str | None:
        at: str | None = commit.tree
        for part in self.inside.split("/") if self.inside else ():
            at = self._subtree(at, part) if at else None
        return at

    @cached_property
    def _subtree(self) -> Callable[[str, str], str | None]:
        """`find_subtree` with a cache: most commits leave most directories unchanged."""
        return lru_cache(REMEMBERED)(lambda oid, part: find_subtree(oid, part, self.objects))

    def _parent(self, oid: str, number: int) -> str | None:
        if number == 0:
            return oid
        parents = self._read_commit(oid).parents
        return parents[number - 1] if number <= len(parents) else None

    def _ancestor(self, oid: str, generations: int) -> str | None:
        at: str | None = oid
        for _ in range(generations):
            at = self._parent(at, 1) if at else None
        return at

    def _resolve_name(self, name: str) -> str | None:
        """Return the commit of a name as in gitrevisions(7): an id, a reference, or the beginning of an id."""
        if OID.fullmatch(name):
            return self._peel(name)
        name = "HEAD" if name == "@" else name
        places = ("refs/{}", "refs/tags/{}", "refs/heads/{}", "refs/remotes/{}", "refs/remotes/{}/HEAD")
        tried = [name, *(place.format(name) for place in places)]
        commit_id = next(filter(None, map(self._resolve_reference, filter(_is_reference, tried))), None)
        if commit_id is None and ABBREVIATED.fullmatch(name):
            commits = {self._peel(oid) for oid in self.objects.matching(name)} - {None}
            commit_id = commits.pop() if len(commits) == 1 else None
        return commit_id

    def _resolve_reference(self, name: str, depth: int = 5) -> str | None:
        """Return the commit that a reference leads to."""
        content = read_file(self._reference_directory(name), name, 4096)
        if content is None:
            oid = self._find_packed_reference(name)
        elif content.startswith(b"ref:"):
            target = content[4:].decode("utf-8", "replace").strip()
            return self._resolve_reference(target, depth - 1) if depth and _is_reference(target) else None
        else:
            oid = content.decode("ascii", "replace").strip()
        return self._peel(oid) if oid and OID.fullmatch(oid) else None

    def _reference_directory(self, name: str) -> int:
        """Return the directory with a reference: the work tree's own or the common one (gitrepository-layout(5))."""
        own = not name.startswith("refs/") or name.startswith(("refs/bisect/", "refs/worktree/", "refs/rewritten/"))
        return self.git if own else self.common

    def _peel(self, oid: str, depth: int = MAX_TAGS) -> str | None:
        """Return the commit that an object is or that a tag points to; None for other and for missing objects."""
        try:
            kind, content = self.objects.read(oid)
        except SourceInvalid:
            self.objects.budget.checkpoint()
            if oid == self._head:
                raise  # HEAD is valid, but the repository is damaged
            return None
        if kind == "tag" and depth:
            target = re.match(rb"object ([0-9a-f]{40})\n", content)
            return self._peel(target[1].decode(), depth - 1) if target else None
        return oid if kind == "commit" else None

    @cached_property
    def _head(self) -> str | None:
        """Id that HEAD leads to, even if the object is missing."""
        content = (read_file(self.git, "HEAD", 4096) or b"").decode("utf-8", "replace").strip()
        name = content.removeprefix("ref:").strip()
        if content == name or not _is_reference(name):
            return content
        loose = read_file(self._reference_directory(name), name, 4096)
        return loose.decode("ascii", "replace").strip() if loose is not None else self._find_packed_reference(name)

    @cached_property
    def _packed_references(self) -> bytes:
        return b"\n%b\n" % (read_file(self.common, "packed-refs", MAX_REFS) or b"")

    def _find_packed_reference(self, name: str) -> str | None:
        """Return the id in the last line of packed-refs with this name. The file is not split: it may be large."""
        content, end = self._packed_references, b" %b\n" % name.encode("utf-8", "replace")
        at = content.rfind(end)
        while at >= 0:
            if match := PACKED.fullmatch(content, max(0, at - 41), at):
                return match[1].decode()
            at = content.rfind(end, 0, at)
        return None

    @cached_property
    def _shallow_commits(self) -> frozenset[str]:
        """Commits whose parents a shallow clone does not have."""
        content = read_file(self.common, "shallow", MAX_SHALLOW) or b""
        return frozenset(match.group().decode() for match in re.finditer(rb"\b[0-9a-f]{40}\b", content))

    @property
    def _remote(self) -> str:
        """The first address of `origin`, from which git fetches; empty if there is none."""
        try:
            addresses = _configuration(self.common).get_multivar((b"remote", b"origin"), b"url")
            return next(iter(addresses), b"").decode("utf-8", "replace")
        except KeyError:
            return ""


def read_remote(directory: Path) -> str:
    """Return the repository that a directory's code comes from, as `Source.repository` names it.

    Raises `SourceInvalid`.
    """
    with open_directory_by_path(directory) as root, open_repository(root) as repository:
        return repository.remote if repository else read_path(root).name


def read_commit(directory: Path, revision: str | None) -> tuple[str, str]:
    """Return the repository that a directory's code comes from, and a commit of it: by default the one checked out.

    Raises `SourceInvalid`, also if there is no such commit.
    """
    with open_directory_by_path(directory) as root, open_repository(root) as repository:
        commit = repository.commit(revision) if repository else None
        if repository is None or commit is None:
            raise SourceInvalid(f"{directory} has no commit {revision or 'HEAD'}.\nName one of its git repository.")
        return repository.remote, commit


@contextlib.contextmanager
def open_repository(root: int, budget: Budget | None = None) -> Iterator[Repository | None]:
    """Yield the repository of the application whose directory is open as `root`; None if there is none.

    Raises `SourceInvalid` if the repository cannot be read safely, if its storage format is not supported, and if the
    directory moves meanwhile, because names are taken from the opened directories. Reading the repository raises the
    errors of `budget`.
    """
    real = read_path(root)
    budget = budget or Budget()
    with ExitStack() as stack:
        at, inside = stack.enter_context(open_directory(root, "")), Path()
        for place in (real, *real.parents):
            git = _git_directory(at, place, stack)
            if git is not None:
                if read_path(at) != place or read_path(root) != real:
                    raise SourceInvalid(f"{real} was moved while it was read.\nRun it again when nothing changes it.")
                common = _common_directory(git, stack)
                yield _open_checked(place.name, str(inside) if inside.parts else "", root, git, common, stack, budget)
                return
            inside = place.name / inside
            at = os.open("..", DIRECTORY, dir_fd=at)
            stack.callback(os.close, at)
        if _looks_like_repository(root):  # only `root` itself may be a bare repository, not a directory above it
            bare = stack.enter_context(open_directory(root, ""))
            yield _open_checked(real.name, "", root, bare, bare, stack, budget)
            return
        yield None


def _open_checked(
    name: str, inside: str, root: int, git: int, common: int, stack: ExitStack, budget: Budget
) -> Repository:
    trusted = {0, os.geteuid(), os.fstat(root).st_uid}
    if not {os.fstat(git).st_uid, os.fstat(common).st_uid} <= trusted:
        raise SourceInvalid(
            f"The git repository {name} belongs to another user than the application's directory, so it is not "
            "trusted.\nGive both to one user (chown), or build from a clone of your own."
        )
    _check_format(common, name)
    with translate_errors(f"{name}/.git/objects"):
        objects = stack.enter_context(open_directory(common, "objects"))
    if (read_file(objects, "info/alternates", MAX_CONFIG) or b"").strip():
        raise SourceInvalid(
            f"The git repository {name} borrows objects from another one (objects/info/alternates), which is not read."
            "\nCopy them (`git repack -a -d`, then remove that file), or clone without --shared and --reference."
        )
    return Repository(name, inside, git, common, Objects(objects, stack, budget))


def _git_directory(at: int, place: Path, stack: ExitStack) -> int | None:
    """Return git's directory of a work tree whose root is open as `at`; None if it is not the root of one."""
    try:
        mode = os.stat(".git", dir_fd=at, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceInvalid(f"{place}/.git cannot be read: {error.strerror}\nMake it readable.") from error
    if stat.S_ISREG(mode):
        return _linked_git_directory(at, place, stack)
    if not stat.S_ISDIR(mode):
        raise SourceInvalid(f"{place}/.git is a link, or no directory.\nClone the repository to there.")
    with translate_errors(f"{place}/.git"):
        git = stack.enter_context(open_directory(at, ".git"))
    return git if _looks_like_repository(git) else None


def _linked_git_directory(at: int, place: Path, stack: ExitStack) -> int:
    """Return git's directory of a work tree that `git worktree` added; that directory has to name the work tree."""
    text = (read_file(at, ".git", 8192) or b"").decode("utf-8", "surrogateescape")
    target = place / text.removeprefix("gitdir:").strip()
    if text.startswith("gitdir:") and "\0" not in text:
        with contextlib.suppress(OSError, ValueError):  # the latter for a NUL in `back`
            git = stack.enter_context(open_directory_by_path(Path(os.path.realpath(target))))
            back = (read_file(git, "gitdir", 8192) or b"").decode("utf-8", "surrogateescape").strip()
            if back and Path(os.path.realpath(target / back)) == place / ".git":
                return git
    raise SourceInvalid(
        f"{place}/.git leads to a repository that does not name {place} as one of its work trees.\n"
        "Build from a clone, or from a work tree that `git worktree add` made; a submodule is built from its own clone."
    )


def _common_directory(git: int, stack: ExitStack) -> int:
    """Return the directory that a repository's work trees share.

    For a work tree that `git worktree` added, it is two levels above the work tree's git directory.
    """
    if read_file(git, "commondir", 8192) is None:
        return git
    real = Path(f"/proc/self/fd/{git}").readlink()
    common = os.open("../..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=git)
    stack.callback(os.close, common)
    if real.parent.name != "worktrees" or not _looks_like_repository(common):
        raise SourceInvalid(
            f"{real} has a file `commondir` like a work tree, but belongs to no repository two directories above it.\n"
            "Build from a clone, or from a work tree that `git worktree add` made."
        )
    return common


def _looks_like_repository(directory: int) -> bool:
    try:
        with open_file(directory, "HEAD"):
            pass
        with contextlib.suppress(FileNotFoundError), open_file(directory, "commondir"):
            return True
        with open_directory(directory, "objects"), open_directory(directory, "refs"):
            return True
    except OSError:
        return False


def _check_format(common: int, name: str) -> None:
    config = _configuration(common)
    for key, expected in FORMATS.items():
        with contextlib.suppress(KeyError):
            value = config.get((b"extensions",), key)
            if value.lower() != expected:
                text = value.decode("utf-8", "replace")
                raise SourceInvalid(
                    f"The git repository {name} is kept in a form that is not read (extensions.{key.decode()} {text})."
                    "\nBuild from a clone with SHA-1 objects and references in files."
                )


def _configuration(common: int) -> ConfigFile:
    """Return the repository's own configuration, without included files, which do not belong to the repository."""
    try:
        content = io.BytesIO(read_file(common, "config", MAX_CONFIG) or b"")
        return ConfigFile.from_file(content, expand_includes=False)
    except ValueError as error:
        raise SourceInvalid(f"The git repository's config cannot be read: {error}\nCorrect .git/config.") from error


def _is_reference(name: str) -> bool:
    """Return whether a name is HEAD or a valid reference (git-check-ref-format(1)); git's other files are none."""
    parts = name.split("/")
    plain = all(part and not part.startswith(".") and not part.endswith((".lock", ".")) for part in parts)
    return name == "HEAD" or (
        name.startswith("refs/") and plain and ".." not in name and "@{" not in name and name.isprintable()
    )


def _without_credentials(remote: str) -> str:
    """Return a remote's address without the user's name and password.

    The user's name stays in `user@host:path`. In an http or https address, the query and the fragment are removed too,
    because they may contain a token. The address is parsed as git parses it (RFC 3986; git-clone(1), "GIT URLS"),
    except for a password that contains an unescaped `/` or `@`. Raises `SourceInvalid` if more than one `@` could be
    the end of the password, for control or invisible characters, and for more than `MAX_REMOTE` characters.
    """
    if len(remote) > MAX_REMOTE:
        raise SourceInvalid(
            f"The address of the git remote origin has more than {MAX_REMOTE} characters.\n"
            "Set the address of the repository (`git remote set-url origin ADDRESS`)."
        )
    if has_control(remote):
        raise SourceInvalid(
            "The address of the git remote origin has control characters or invisible ones.\n"
            "Set it without them (`git remote set-url origin ADDRESS`)."
        )
    url = SCHEME.match(remote)
    if url is None:
        return _without_scp_credentials(remote)
    rest = remote[url.end() :]
    parts = rest.split("/")
    web = url[0].lower().endswith(("http://", "https://"))
    if not HOST.fullmatch(parts[0]):
        host = QUERY.sub("", parts[0]) if web else parts[0]
        ends_early = host != parts[0] and HOST.fullmatch(host)  # a query ends it, or `host` is a user's name
        if sum("@" in part for part in parts) > 1 or ((PORT.fullmatch(host) or ends_early) and "@" in rest):
            raise _remote_error()
        rest = rest.rpartition("@")[2]
    return url[0] + (QUERY.sub("", rest) if web else rest)


def _without_scp_credentials(remote: str) -> str:
    """Remove a password from an address of the form `host:path`; return a path of a directory unchanged."""
    head, colon, path = remote.partition(":")
    if not colon or "/" in head or "@" not in path:
        return remote
    last = path.rpartition("@")[2]
    ends_password = SCP.fullmatch(last) is not None
    if ("@" in head) is ends_password:
        raise _remote_error()
    return last if ends_password else remote


def _remote_error() -> SourceInvalid:
    return SourceInvalid(
        "The address of the git remote origin holds an @ that may end a password or be a part of the path.\n"
        "Set the address without a password (`git remote set-url origin ADDRESS`; see gitcredentials(7)), and write "
        "an @ of the path as %40."
    )
