"""The rules for the names and links of a snapshot: a name means the same file on every machine."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from supply_chain.errors import SourceInvalid

MAX_NAME = 255
"""Largest length of a name in a directory in bytes (NAME_MAX of Linux). Git has no such limit."""
MAX_PATH = 4095
"""Largest length of a link's target in bytes (PATH_MAX of Linux)."""
MAX_RELATIVE = 3072
"""Largest length of a path below the application's directory in bytes. The rest of PATH_MAX is for the directories that
copies lie in.
"""
MAX_LINKS = 40
"""Largest number of links that are followed one after the other (the limit of Linux)."""

CONTROL = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of characters of which most are not printed, or change the order in which a name is shown."""
IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Characters that may take no space (Unicode 17.0, Default_Ignorable_Code_Point)."""

Checkpoint = Callable[[], object]
"""Called at each step of an operation that takes long. It raises if the snapshot has to end."""


def skip_checkpoint() -> None:
    """Do nothing: the checkpoint of an operation without a limit."""


def check_name(name: str) -> None:
    """Refuse a name that is not UTF-8, or that has characters which are not printed as they are."""
    if has_control(name):
        escaped = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise SourceInvalid(
            f"{ascii(escaped)[1:-1]}: the name is not UTF-8, or has control characters or invisible ones.\nRename it."
        )


def has_control(text: str) -> bool:
    """Return whether a text has characters that are not printed as they are, or is not UTF-8 (surrogates)."""
    if text.isascii() and text.isprintable():
        return False
    return IGNORABLE.search(text) is not None or any(unicodedata.category(letter) in CONTROL for letter in text)


def measure_path(path: str) -> int:
    """Return the length of a path in bytes.

    Raises `SourceInvalid` if the path is longer than the path of a copy could be, or the name at its end is longer than
    any file system allows.
    """
    content = path.encode("utf-8", "surrogateescape")
    if len(content) > MAX_RELATIVE or len(content) - content.rfind(b"/") - 1 > MAX_NAME:
        raise SourceInvalid(
            f"{ascii(path[:200])[1:-1]}… is too long: a name may have {MAX_NAME} bytes, a path {MAX_RELATIVE}.\n"
            "Rename it, or move it up."
        )
    return len(content)


def check_collisions(paths: Iterable[str], checkpoint: Checkpoint = skip_checkpoint) -> None:
    """Refuse names that some file systems treat as one: they differ only by case or by Unicode normalization.

    Follows Unicode 15, section 3.13, "canonical caseless match".
    """
    names: dict[str, str] = {}
    for path in paths:
        checkpoint()
        end = len(path)
        while end > 0:
            part = path[:end]
            key = _caseless(part)
            other = names.setdefault(key, part)
            if other != part:
                raise SourceInvalid(
                    f"{ascii(other)[1:-1]} and {ascii(part)[1:-1]} are the same name on file systems that ignore case "
                    "or Unicode normalization.\nRename one of them."
                )
            end = path.rfind("/", 0, end)


def _caseless(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def check_links(links: Mapping[str, str], checkpoint: Checkpoint = skip_checkpoint) -> None:
    """Refuse a link that leads out of the build context.

    `links` maps paths to targets; the paths are relative to the context. A target need not exist, because the build may
    create it.
    """
    top = _Place()
    for path, target in links.items():
        checkpoint()
        if target.startswith("/"):
            raise SourceInvalid(
                f"{path} is a link to the absolute path {target!r}, which may be another file on each machine.\n"
                "Make it a relative link, or a file."
            )
        if len(target.encode("utf-8", "surrogateescape")) > MAX_PATH or not target:
            raise SourceInvalid(f"{path} leads nowhere.\nRemove it, or make it a file.")
        check_name(target)
        top.add(path, target)
    for path in links:
        _resolve(path, top, checkpoint)


@dataclass(slots=True)
class _Place:
    """A directory with links in or below it, or a link, which has a target."""

    target: str | None = None
    below: dict[str, _Place] = field(default_factory=dict)

    def add(self, path: str, target: str) -> None:
        at = self
        for part in path.split("/"):
            at = at.below.setdefault(part, _Place())
        at.target = target


NOWHERE = _Place()
"""A directory without links below it."""


def _resolve(path: str, top: _Place, checkpoint: Checkpoint) -> None:
    """Follow a link as the kernel does, and refuse a `..` that leaves the build context.

    Each part of a target is looked up in the directory reached so far, so that the work grows only with the number of
    parts.
    """
    at = [top]
    left = list(reversed(path.split("/")))
    for _ in range(len(left) - 1):
        at.append(at[-1].below[left.pop()])
    followed = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if len(at) == 1:
                raise SourceInvalid(f"{path} leads out of the build context.\nMake it a file, or leave it out.")
            at.pop()
            continue
        place = at[-1].below.get(part, NOWHERE)
        if place.target is None:
            at.append(place)
            continue
        checkpoint()
        followed += 1
        if followed > MAX_LINKS:
            raise SourceInvalid(f"{path} leads to itself.\nRemove it, or let it lead to a file.")
        left += reversed(place.target.split("/"))
