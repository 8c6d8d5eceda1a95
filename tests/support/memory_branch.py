"""A branch of a repository in memory, and a controller that applies it to a cluster in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1

from supply_chain.errors import DeclarationInvalid, SupplyChainError
from supply_chain.execution.delivery.repository import Revision


@dataclass
class MemoryBranch:
    """One branch with files. `applied` is called after each commit; `failing` raises at `read` or `change`."""

    files: dict[str, bytes] = field(default_factory=dict)
    address: str = "https://git.example.com/environments.git"
    name: str = "main"
    messages: list[str] = field(default_factory=list)
    failing: dict[str, SupplyChainError] = field(default_factory=dict)
    applied: Callable[[], object] = lambda: None

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
            self.commit(path, content, message)
        return self.read(path)

    def commit(self, path: str, content: bytes, message: str = "by hand") -> None:
        """Commit a file, whoever does it."""
        self.files[path] = content
        self.messages.append(message)
        self.applied()

    @property
    def head(self) -> str:
        """The id of the newest commit."""
        return sha1(repr((self.messages, self.files)).encode(), usedforsecurity=False).hexdigest()
