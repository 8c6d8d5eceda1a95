"""The collector: a program that reads the processes and changed files of another container.

Nothing of the container's image runs for that. What the collector prints is not trusted: what it reads, and how it is
printed, is in the hands of what runs in the container as the same user.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated

from pydantic import AwareDatetime, Field, JsonValue, StringConstraints

from supply_chain.execution.isolation.collector_program import END
from supply_chain.model.image import Digest, Model, digest_of

PROGRAM = files("supply_chain.execution.isolation").joinpath("collector_program.py").read_text(encoding="utf-8")
COMMAND = ("/usr/bin/python3", "-I", "-S", "-c", PROGRAM)
"""The command of the collector's container; its image needs nothing but Python 3.11."""
MOST_UNPACKED = 64 * 1024 * 1024
"""Bytes of the largest document that is read."""


Path = Annotated[str, StringConstraints(max_length=20_000)]
"""A path as the collector prints it; bytes that are not UTF-8 have four characters."""


class ChangedFile(Model):
    """A file that changed since its container started."""

    path: Path
    mode: str
    size: int
    user: int
    group: int
    changed: AwareDatetime
    modified: AwareDatetime
    digest: Digest | None = None
    target: Path | None = Field(default=None, description="of a symbolic link")


class _Document(Model):
    """What a collector prints."""

    processes: list[dict[str, JsonValue]]
    files: list[ChangedFile]
    contents: list[str]
    unread: dict[Path, Annotated[str, StringConstraints(max_length=200)]]


@dataclass(frozen=True)
class Collected:
    """What a collector found in a container."""

    processes: list[dict[str, JsonValue]]
    files: list[ChangedFile]
    unread: Mapping[str, str]
    """Path → why it was not read."""
    contents: Mapping[Digest, bytes]
    """The contents of the smallest of the files."""

    @property
    def missing(self) -> list[str]:
        """The paths of the files whose contents were not kept."""
        return sorted(
            each.path for each in self.files if each.digest and each.size and each.digest not in self.contents
        )


def read_output(output: str) -> Collected:
    """Return what a collector printed; raise ValueError for anything else, with the reason."""
    *lines, last = output.strip().split("\n")
    if not last.startswith(f"{END} "):
        raise ValueError(f"its output is incomplete: it ends with {last[-200:]!r}")
    try:
        document = _read_document("".join(lines), last.removeprefix(f"{END} "))
        contents = [base64.b64decode(each, validate=True) for each in document.contents]
    except (ValueError, zlib.error) as error:
        why, *_ = str(error).split("\n")
        raise ValueError(f"its output cannot be read: {why}") from error
    return Collected(document.processes, document.files, document.unread, {digest_of(each): each for each in contents})


def _read_document(text: str, digest: str) -> _Document:
    packed = base64.b64decode(text, validate=True)
    if hashlib.sha256(packed).hexdigest() != digest:
        raise ValueError("it has another digest")
    return _Document.model_validate_json(zlib.decompressobj().decompress(packed, MOST_UNPACKED))
