"""A branch of a git repository over HTTPS, as `execution.delivery.repository.Branch` describes it.

There is no clone: the newest commits are fetched into memory, and the new objects are pushed. No program is run, and no
configuration is read.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import urllib3.exceptions
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dulwich.client import HttpGitClient, HTTPProxyUnauthorized, HTTPUnauthorized
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository, SendPackError
from dulwich.object_store import MemoryObjectStore, ObjectStoreGraphWalker
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.pack import UnpackedObject, pack_objects_to_data
from dulwich.refs import Ref

from supply_chain.adapters.git.ssh_signature import sign
from supply_chain.errors import DeclarationInvalid, GitRefused, GitUnavailable
from supply_chain.execution.delivery.repository import FileChange, Revision
from supply_chain.model.container import Wait
from supply_chain.text import sanitize_text

TIMEOUT = 30.0
"""Seconds for a connection, and for each part of an answer."""
MOST_BYTES = 512 * 1024**2
"""Maximum size of what is fetched, compressed; it is held in memory."""
DEPTH = 100
"""How many of the newest commits are fetched to see what changed a file."""
TRIES = 5
"""How often a change is made again because somebody else changed the branch meanwhile."""
PAUSE = 0.5
"""Seconds before the second of these; each further pause is longer by that."""
REFUSED = {401, 403}
RACES = ("changed", "fetch first", "lock", "non-fast-forward", "stale", "update ref", "expected")
"""What servers write if a branch moved during a push (git-receive-pack, GitHub, GitLab, Gitea)."""


@dataclass(frozen=True)
class Author:
    """Whose name commits have. `email` is one for which the git host knows the key, so that it shows them as signed."""

    name: str
    email: str
    key: Ed25519PrivateKey


@dataclass(frozen=True)
class Snapshot:
    """The newest commits of a branch, with their files; `place` is the branch, for errors."""

    head: ObjectID
    store: MemoryObjectStore
    place: str

    @property
    def root(self) -> ObjectID:
        """The tree of the root of the newest commit."""
        tree: ObjectID = next(self.list_commits()).tree
        return tree

    def list_commits(self) -> Iterator[Commit]:
        """Yield the commits, the newest first, along the first parents."""
        oids = [self.head]
        while oids and oids[0] in self.store:
            commit = self.store[oids[0]]
            assert isinstance(commit, Commit)
            yield commit
            oids = commit.parents

    def read(self, path: str) -> Revision:
        """Return a file, as `Files` describes."""
        blob = self.find(self.root, path)
        if blob is None:
            raise DeclarationInvalid(
                f"There is no file {path} on {self.place}.\n"
                "Commit it there, with the image, or correct `delivery.git.path` of the environment."
            )
        return Revision(self.head.decode(), blob.data)

    def find(self, root: ObjectID, path: str) -> Blob | None:
        """Return the content of a file below a tree; None if there is none."""
        at, mode = root, stat.S_IFDIR
        for part in path.encode().split(b"/"):
            tree = self.store[at] if stat.S_ISDIR(mode) else None
            if not isinstance(tree, Tree) or part not in tree:
                return None
            mode, at = tree[part]
        blob = self.store[at] if stat.S_ISREG(mode) else None
        return blob if isinstance(blob, Blob) else None


@dataclass(frozen=True)
class RemoteBranch:
    """One branch, with the account of `username` and `password`; both are empty without an account."""

    address: str
    name: str
    author: Author
    now: Callable[[], datetime]
    wait: Wait
    """Sleeps, also in a cancelled run: that has to revert its commit."""
    username: str = ""
    password: str = ""

    def fetch(self) -> Snapshot:
        """Return the files of the newest commit, as `Branch` describes."""
        with self._translate():
            return self._fetch()

    def read(self, path: str) -> Revision:
        """Return a file, as `Branch` describes."""
        return self.fetch().read(path)

    def list_changes(self, path: str) -> tuple[FileChange, ...]:
        """Return the last changes of a file among the newest `DEPTH` commits, as `Branch` describes."""
        with self._translate():
            snapshot = self._fetch(DEPTH)
        snapshot.read(path)
        changes: list[tuple[Commit, Blob]] = []
        for commit in snapshot.list_commits():
            blob = snapshot.find(commit.tree, path)
            if blob is None:
                break
            if changes and changes[-1][1].id == blob.id:
                changes.pop()  # the file is older than that commit
            changes.append((commit, blob))
        return tuple(
            FileChange(
                Revision(commit.id.decode(), blob.data), commit.message.decode(errors="replace"), self._signed(commit)
            )
            for commit, blob in changes
        )

    def _signed(self, commit: Commit) -> bool:
        """Return whether the author's key signed a commit; with Ed25519, the same content has the same signature."""
        return bool(commit.gpgsig == sign(self.author.key, commit.raw_without_sig()))

    def change(self, path: str, edit: Callable[[bytes], bytes], message: str) -> Revision:
        """Change a file by one commit, as `Branch` describes.

        A push that the server may have carried out without an answer is found by the next look, which then changes
        nothing.
        """
        answer = ""
        for number in range(TRIES):
            if number:
                self.wait(PAUSE * number)
            snapshot = self.fetch()
            before = snapshot.read(path).content
            content = edit(before)
            if content == before:
                return Revision(snapshot.head.decode(), before)
            objects = self._make(snapshot, path, content, message)
            with self._translate():
                answer = self._push(snapshot.head, objects)
            if not answer:
                return Revision(objects[0].id.decode(), content)
        raise GitUnavailable(
            f"The branch {self.name} of {self.address} changed during each of {TRIES} pushes: {sanitize_text(answer)}\n"
            "The step is retried; find out what commits so often."
        )

    @cached_property
    def _client(self) -> HttpGitClient:
        return HttpGitClient(
            self.address, username=self.username or None, password=self.password or None, timeout=TIMEOUT,
            thin_packs=False, quiet=True,
        )  # fmt: skip

    @property
    def _ref(self) -> Ref:
        return Ref(f"refs/heads/{self.name}".encode())

    def _fetch(self, depth: int = 1) -> Snapshot:
        """Return so many of the newest commits; raise `GitRefused` if there is no such branch."""
        store = MemoryObjectStore()
        file, complete, abandon = store.add_pack()
        heads: list[ObjectID] = []
        size = 0

        def choose(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
            if self._ref in refs:
                heads.append(refs[self._ref])
            return heads

        def write(data: bytes) -> int:
            nonlocal size
            size += len(data)
            if size > MOST_BYTES:
                raise GitRefused(
                    f"The newest commits of {self.address} have more than {MOST_BYTES} bytes.\n"
                    "Use a repository for what environments run alone."
                )
            return file.write(data)

        try:
            walker = ObjectStoreGraphWalker([], lambda _: [])
            self._client.fetch_pack(b"", choose, walker, write, depth=depth, ref_prefix=[self._ref])
        except BaseException:
            abandon()
            raise
        if not heads:
            abandon()
            raise GitRefused(f"{self.address} has no branch {self.name}.\nMake it, or correct the environment.")
        complete()
        return Snapshot(heads[0], store, f"the branch {self.name} of {self.address}")

    def _make(self, snapshot: Snapshot, path: str, content: bytes, message: str) -> list[ShaFile]:
        """Return the objects of a commit that changes a file, the commit first."""
        blob = Blob.from_string(content)
        objects: list[ShaFile] = [blob]
        names = path.encode().split(b"/")
        trees = [snapshot.root]
        for name in names[:-1]:
            parent = snapshot.store[trees[-1]]
            assert isinstance(parent, Tree)  # the file was read
            trees.append(parent[name][1])
        below = blob.id
        for name, oid in zip(reversed(names), reversed(trees), strict=True):
            tree = snapshot.store[oid].copy()
            assert isinstance(tree, Tree)
            tree[name] = (tree[name][0], below)
            objects.insert(0, tree)
            below = tree.id
        return [self._commit(below, snapshot.head, message), *objects]

    def _commit(self, tree: ObjectID, parent: ObjectID, message: str) -> Commit:
        commit = Commit()
        commit.tree, commit.parents = tree, [parent]
        commit.author = commit.committer = f"{self.author.name} <{self.author.email}>".encode()
        commit.author_time = commit.commit_time = int(self.now().timestamp())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding, commit.message = b"UTF-8", message.encode()
        commit.gpgsig = sign(self.author.key, commit.as_raw_string())
        return commit

    def _push(self, expected: ObjectID, objects: list[ShaFile]) -> str:
        """Push a commit if the branch is where it was; return why it moved, otherwise an empty text.

        Raises `GitRefused` if the server refuses the commit itself.
        """
        moved = False

        def update(refs: dict[Ref, ObjectID]) -> dict[Ref, ObjectID]:
            nonlocal moved
            moved = refs.get(self._ref) != expected
            return {} if moved else {self._ref: ObjectID(objects[0].id)}

        def pack(
            have: AbstractSet[ObjectID],
            want: AbstractSet[ObjectID],
            *,
            ofs_delta: bool = True,
            progress: Callable[[bytes], None] | None = None,
        ) -> tuple[int, Iterator[UnpackedObject]]:
            return pack_objects_to_data(objects)

        result = self._client.send_pack(b"", update, pack)
        if moved:
            return "it moved before the push"
        trouble = (result.ref_status or {}).get(self._ref)
        if trouble and not any(word in trouble.lower() for word in RACES):
            raise self._refusal(trouble)
        return trouble or ""

    def _refusal(self, answer: object) -> GitRefused:
        return GitRefused(
            f"{self.address} refused its branch {self.name}: {sanitize_text(answer)}\n"
            "Allow the account of the repository's block to read it and to push fast-forward commits to it."
        )

    @contextlib.contextmanager
    def _translate(self) -> Iterator[None]:
        """Translate the client's errors to the project's."""
        try:
            yield
        except (HTTPUnauthorized, HTTPProxyUnauthorized, NotGitRepository, SendPackError) as error:
            raise self._refusal(str(error) or type(error).__name__) from error
        except GitProtocolError as error:
            if any(f"http resp {status}" in str(error) for status in REFUSED):
                raise self._refusal(error) from error
            raise self._unavailable(error) from error
        except (HangupException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> GitUnavailable:
        return GitUnavailable(
            f"{self.address} did not answer: {sanitize_text(error) or type(error).__name__}\n"
            "Check the address in the repository's block, and the network; the step is retried."
        )
