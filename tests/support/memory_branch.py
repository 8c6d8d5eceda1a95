"""A branch of a repository in memory, and a controller that applies it to a cluster in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1

from supply_chain.errors import DeclarationInvalid, SupplyChainError
from supply_chain.execution.delivery.repository import FileChange, Revision


@dataclass
class MemoryBranch:
    """One branch with files. `applied` is called after each commit; `failing` raises at `read` or `change`.

    `fetches` counts how often the files were fetched.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    address: str = "https://git.example.com/environments.git"
    name: str = "main"
    messages: list[str] = field(default_factory=list)
    failing: dict[str, SupplyChainError] = field(default_factory=dict)
    applied: Callable[[], object] = lambda: None
    changes: list[tuple[str, FileChange]] = field(default_factory=list)
    fetches: int = 0

    def __post_init__(self) -> None:
        self.changes += [
            (path, FileChange(Revision(self.head, content), "by hand", signed=False))
            for path, content in self.files.items()
        ]

    def fetch(self) -> MemoryBranch:
        if "read" in self.failing:
            raise self.failing["read"]
        self.fetches += 1
        return MemoryBranch(dict(self.files), messages=list(self.messages))

    def list_changes(self, path: str) -> tuple[FileChange, ...]:
        self.read(path)
        return tuple(change for where, change in reversed(self.changes) if where == path)

    def read(self, path: str) -> Revision:
        if "read" in self.failing:
            raise self.failing["read"]
        if path not in self.files:
            raise DeclarationInvalid(f"{path} is no file\nno")
        return Revision(self.head, self.files[path])

    def change(self, path: str, edit: Callable[[bytes], bytes], message: str) -> Revision:
        if "change" in self.failing:
            raise self.failing["change"]
        before = self.read(path).content
        content = edit(before)
        if content != before:
            self.commit(path, content, message, signed=True)
        return self.read(path)

    def commit(self, path: str, content: bytes, message: str = "by hand", *, signed: bool = False) -> None:
        """Commit a file, whoever does it."""
        self.files[path] = content
        self.messages.append(message)
        self.changes.append((path, FileChange(Revision(self.head, content), message, signed)))
        self.applied()

    @property
    def head(self) -> str:
        """The id of the newest commit."""
        return sha1(repr((self.messages, self.files)).encode(), usedforsecurity=False).hexdigest()
