"""The port of an environment's repository: one branch of a git repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Revision:
    """A file at a commit of the branch."""

    commit: str
    content: bytes


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

    def read(self, path: str) -> Revision:
        """Return a file as the branch has it now."""

    def change(self, path: str, edit: Callable[[bytes], bytes], message: str) -> Revision:
        """Change a file by one signed commit on top of the branch, and return it then.

        `edit` returns the new content, and is called again if others have changed the branch meanwhile; what it raises
        ends the change. If it returns what is there already, nothing is committed, and the branch's head is returned.
        """
