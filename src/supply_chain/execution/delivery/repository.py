"""The port of an environment's repository: one branch of a git repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Revision:
    """A file at a commit of the branch."""

    commit: str
    content: bytes


@dataclass(frozen=True)
class FileChange:
    """A commit that changed a file, and the file since then.

    `signed` is true if the key of the branch signed the commit.
    """

    revision: Revision
    message: str
    signed: bool


class Files(Protocol):
    """The files of a branch at one commit."""

    def read(self, path: str) -> Revision:
        """Return a file; raise `DeclarationInvalid` if there is no such file."""


class Branch(Protocol):
    """One branch of a git repository, with the permissions of one identity.

    Every call ends within the client's timeout. It raises `GitUnavailable` if the repository does not answer or others
    are always faster, `GitRefused` for what it refuses, and `DeclarationInvalid` if it has no such file.
    """

    @property
    def address(self) -> str:
        """The repository's address, without credentials."""

    @property
    def name(self) -> str:
        """The branch's name."""

    def fetch(self) -> Files:
        """Return the files as the branch has them now."""

    def read(self, path: str) -> Revision:
        """Return a file as the branch has it now."""

    def list_changes(self, path: str) -> tuple[FileChange, ...]:
        """Return the last commits that changed a file, the newest first, along the first parents.

        The oldest one is where the file begins, or where so many commits were read that no more are: who made it and
        why says nothing then.
        """

    def change(self, path: str, edit: Callable[[bytes], bytes], message: str) -> Revision:
        """Change a file by one signed commit on top of the branch, and return it then.

        `edit` returns the new content, and is called again if others have changed the branch meanwhile; what it raises
        ends the change. If it returns what is there already, nothing is committed, and the branch's head is returned.
        """


@dataclass
class FetchedBranches:
    """The branches that one look has fetched, by address and name: each is fetched once, whatever uses it."""

    files: dict[tuple[str, str], Files] = field(default_factory=dict)

    def fetch(self, branch: Branch) -> Files:
        """Return the files of a branch as it was when this was called first."""
        key = branch.address, branch.name
        if key not in self.files:
            self.files[key] = branch.fetch()
        return self.files[key]
