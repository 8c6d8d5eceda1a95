"""The files of a build context, as BuildKit takes them: what `.dockerignore` leaves, tracked by git or not."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from supply_chain.errors import CheckNotMade
from supply_chain.scratch import scratch
from supply_chain.shown import counted

TOKEN = re.compile(r"\*\*/?|\*|\?|\[[^\]]*\]|\\.|[^*?\[\\]+|.", re.DOTALL)
UNCLEAR = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]|\r(?!\n|$)|\[[^\]]*\[")
"""What Python and the builder's Go take differently."""
WILD = re.compile(r"[*?\[\]\\]")
LIMIT = 64 * 1024
"""Bytes of patterns that are read; a person does not write more."""
PORTION = 1000
"""Files in one command line."""


@dataclass(frozen=True)
class BuildContext:
    """A directory, and the Dockerfile that is built in it."""

    directory: Path
    dockerfile: Path

    def files(self) -> tuple[str, ...]:
        """Paths relative to the directory, sorted; links are left out, for their targets are in here or outside.

        `CheckNotMade` for a name that is no text, and for a pattern that cannot be read.
        """
        patterns = _patterns(self._ignore)
        found: list[str] = []
        directories = [("", (False,) * len(patterns))]
        while directories:
            above, matched = directories.pop()
            with os.scandir(self.directory / above) as entries:
                for entry in entries:
                    path = f"{above}{entry.name}"
                    ignored, matches = _ignored(path, patterns, matched)
                    if entry.is_dir(follow_symlinks=False):
                        if not ignored or any(pattern.kept for pattern in patterns):
                            directories.append((f"{path}/", matches))
                    elif not ignored and entry.is_file(follow_symlinks=False):
                        found.append(path)
        return tuple(sorted(_text(path) for path in found))

    @contextlib.contextmanager
    def alone(self) -> Iterator[Path]:
        """A directory with these files and no others, gone afterwards; the files themselves are not copied twice."""
        with scratch("context") as work:
            for name in self.files():
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                _laid(self.directory / name, work / name)
            yield work

    @property
    def _ignore(self) -> Path:
        """The file that says what is not in it: the Dockerfile's own before the directory's."""
        own = self.dockerfile.with_name(f"{self.dockerfile.name}.dockerignore")
        return own if own.is_file() else self.directory / ".dockerignore"


def _laid(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or another user's file
        shutil.copyfile(source, target, follow_symlinks=False)


def _text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise CheckNotMade(
            f"The build context holds a file whose name is no UTF-8: {name}\nRename it, or leave it out."
        ) from error
    return path


def portions(files: Sequence[str]) -> Iterator[list[str]]:
    """The files as arguments, so many at a time that a command line holds them; none looks like an option."""
    for start in range(0, len(files), PORTION):
        yield [f"./{name}" for name in files[start : start + PORTION]]


def told(noun: str, rest: str, files: Sequence[str], most: int = 20) -> tuple[str, ...]:
    """A sentence about files, such as `2 binary files not read: a.png, b.png`; none where there are none."""
    more = f" and {len(files) - most} more" if len(files) > most else ""
    return (f"{counted(len(files), noun)} {rest}: {', '.join(files[:most])}{more}",) if files else ()


ANYTHING, DIRECTORIES, WITHIN = re.compile(".*"), re.compile("(.*/)?"), re.compile("[^/]*")
"""What `**`, `**/` and `*` stand for."""


@dataclass(frozen=True)
class _Pattern:
    """A line of `.dockerignore`; `kept` for one that begins with an exclamation mark."""

    parts: tuple[re.Pattern[str], ...]
    kept: bool

    def matches(self, path: str) -> bool:
        """As one expression of all parts would, in time that grows with the pattern's length, as the builder's Go."""
        ends = {0}
        for part in self.parts:
            ends = _ends(part, ends, path)
        return len(path) in ends


def _ends(part: re.Pattern[str], starts: set[int], path: str) -> set[int]:
    """Where a part of a pattern may end that begins at one of these places."""
    if part not in (ANYTHING, DIRECTORIES, WITHIN):
        return {match.end() for start in starts if (match := part.match(path, start))}
    found, going = set(), False
    for place in range(min(starts, default=len(path) + 1), len(path) + 1):
        going = place in starts or (going and path[place - 1] != ("/" if part is WITHIN else "\n"))
        if going and (part is not DIRECTORIES or place in starts or path[place - 1] == "/"):
            found.add(place)
    return found


def _patterns(path: Path) -> list[_Pattern]:
    """Docker's documentation, "Build context", ".dockerignore files"; read as BuildKit reads it."""
    if path.is_symlink():
        raise CheckNotMade(f"{path.name} is a link, which the builder follows elsewhere than a check.\nWrite a file.")
    if not path.is_file():
        return []
    if path.stat().st_size > LIMIT:
        raise CheckNotMade(f"{path.name} has more than {LIMIT // 1024} KiB.\nWrite fewer patterns, one on a line.")
    text = path.read_bytes().decode("utf-8-sig", "replace")
    if UNCLEAR.search(text):
        raise CheckNotMade(
            f"{path.name} holds control characters, or a class within a class ([[).\n"
            "The builder may read it otherwise than a check: write plain patterns, one on a line."
        )
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    try:
        return [_pattern(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    except re.error as error:
        raise CheckNotMade(f"{path.name} holds a pattern that is none: {error}\nCorrect it, and try again.") from error


def _pattern(line: str) -> _Pattern:
    kept = line.startswith("!")
    text = posixpath.normpath(posixpath.normpath(line.removeprefix("!").strip()).lstrip("/").strip())
    if not kept and text.startswith("!"):
        kept, text = True, text[1:]
    if text.startswith("**") and not text.startswith("**/") and not WILD.search(text[2:]):
        return _Pattern((ANYTHING, re.compile(re.escape(text[2:]))), kept)
    return _Pattern(tuple(_part(token) for token in TOKEN.finditer(text)), kept)


def _part(token: re.Match[str]) -> re.Pattern[str]:
    text = token.group()
    if text.startswith("**"):
        return ANYTHING if token.end() == len(token.string) else DIRECTORIES
    if text[0] in "[\\" and len(text) > 1:
        return re.compile(text)  # a class, or a character after a backslash
    return {"*": WITHIN, "?": re.compile("[^/]")}.get(text) or re.compile(re.escape(text))


def _ignored(path: str, patterns: Sequence[_Pattern], above: Sequence[bool]) -> tuple[bool, tuple[bool, ...]]:
    """Whether a path is ignored, and which patterns it matches, given which ones its directory matches.

    The last pattern that matches decides. What would change nothing is not tried, as in BuildKit: a
    pattern that keeps what is not ignored matches nothing below either.
    """
    ignored, matches = False, []
    for pattern, inherited in zip(patterns, above, strict=True):
        matched = inherited or (pattern.kept is ignored and pattern.matches(path))
        if matched:
            ignored = not pattern.kept
        matches.append(matched)
    return ignored, tuple(matches)
