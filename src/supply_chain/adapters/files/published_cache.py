"""Cache what archives of packages published: what is published as a version does not change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from supply_chain.adapters.files.private_files import PrivateFiles

UNUSED = 60 * 24 * 3600.0
"""Seconds after which what was published is forgotten, if nobody asked for it."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class PublishedCache(Generic[Value]):
    """Dataclasses in private files, each by what was asked for: a line with the digest of the JSON that follows.

    JSON has bytes in hexadecimal, and sets as lists. Paths may have any bytes, as `os.fsdecode` has them.
    """

    files: PrivateFiles
    decode: Callable[[Mapping[str, Any]], Value]
    """JSON → the dataclass that has these fields."""
    format: int
    """Raise it when other facts are read of what was published."""

    def read(self, *key: object) -> Value | None:
        """Return what is cached; None without it, or if it is damaged, as after a crash of the machine."""
        digest, _, content = (self.files.read(*self._name(key)) or b"").partition(b"\n")
        return self.decode(json.loads(content)) if digest == _digest(content) else None

    def write(self, value: Value, *key: object) -> None:
        """Cache a value, in place of an earlier one."""
        content = _to_json(vars(value))
        self.files.write(*self._name(key), _digest(content) + b"\n" + content)

    def forget_unused(self) -> None:
        """Remove what nobody asked for recently."""
        self.files.forget_unused(UNUSED)

    def _name(self, key: tuple[object, ...]) -> tuple[str, str]:
        """Return subdirectory and name of a file."""
        name = _digest(_to_json([self.format, *key])).decode()
        return name[:2], name[2:]


def _to_json(value: object) -> bytes:
    return json.dumps(value, default=lambda each: each.hex() if isinstance(each, bytes) else sorted(each)).encode()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
