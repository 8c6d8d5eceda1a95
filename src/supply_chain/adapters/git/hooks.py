"""git's hooks: where they lie, and what one hears of a push. No git is run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from supply_chain.errors import DeclarationInvalid


class Push(NamedTuple):
    """A revision, and the refs that it was pushed to, in order: `refs/heads/main refs/tags/v1`."""

    revision: str
    ref: str


def hooks_of(path: Path) -> tuple[Path, str]:
    """Where the hooks of the repository around `path` lie, and which one hears of a push; `DeclarationInvalid`."""
    for directory in (path, *path.parents):
        if (directory / ".git").is_dir():
            return directory / ".git/hooks", "pre-push"
        if (directory / "HEAD").is_file() and (directory / "objects").is_dir():
            return directory / "hooks", "post-receive"
    raise DeclarationInvalid(f"{path} is in no git repository.\nRun `git init`, or name a directory in a repository.")


def pushed(lines: list[str]) -> list[Push]:
    """The revisions that a hook was told of, each once; a deletion (all zeros) is none.

    The second word is the new revision in both forms, and the third the ref that it is pushed to: pre-push says
    `<local ref> <local oid> <remote ref> <remote oid>`, post-receive `<old> <new> <ref>` (githooks(5)).
    """
    refs: dict[str, set[str]] = {}
    for words in (line.split() for line in lines):
        if len(words) > 2 and words[1].strip("0"):
            refs.setdefault(words[1], set()).add(words[2])
    return [Push(revision, " ".join(sorted(names))) for revision, names in refs.items()]
